//! The only folder that opens or accepts connections.

mod alarm;
pub mod connect;
mod http1;
pub mod inbound;
pub mod listen;
pub mod pool;
mod resolver;
pub mod socket;
pub mod tls;
pub mod tls_fault;
pub mod tunnel;
pub mod unix;
pub mod workers;
