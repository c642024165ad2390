//! pillion in a pod: one definition of its container, and the ways in.
//!
//! [`sidecar`] is the definition. [`annotations`] let a pod change it, [`patch`] puts it into a pod, [`review`] and
//! [`webhook`] do so for the API server ([`admin`] tells how that goes), [`manifest`] and [`yaml`] for files. The chart's
//! template and its policy say the same in their own words; `tests/golden/kubernetes` holds what all four have to give.

pub mod admin;
pub mod annotations;
pub mod manifest;
pub mod patch;
pub mod review;
pub mod sidecar;
pub mod webhook;
pub mod yaml;
