//! pillion from outside, over real sockets and real files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "so may its helpers, which are not inside a #[test]"
)]

mod admin;
mod answers;
mod assertions;
mod certificates;
mod chain;
mod check;
mod check_online;
mod clocks;
mod commands;
mod corpus;
mod demo;
mod descriptors;
mod egress;
mod examples;
mod examples_run;
mod explain;
mod fence;
mod forward_proxy;
mod four_systems;
mod greedy;
mod grpc;
mod half_closed;
mod hand_out;
mod hostile;
mod http2;
mod http2_upstreams;
mod idle;
mod init;
mod interim;
mod kubernetes;
mod layers;
mod lifecycle;
mod log;
mod matrix;
mod memory;
mod names;
mod outage;
mod problems;
mod process;
mod readme;
mod reference;
mod reload;
mod request;
mod rotation;
mod secrets;
mod several_tokens;
mod stage;
mod status;
mod subjects;
mod token_answers;
mod token_command;
mod tokens;
mod trace;
mod unauthorized;
mod unauthorized_rules;
mod unix;
mod upgrade;
mod upstream;
