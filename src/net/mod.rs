//! The only folder that opens or accepts connections.

mod alarm;
pub mod ask;
pub mod body;
pub mod connect;
pub mod content;
mod http1;
pub mod inbound;
pub mod listen;
pub mod multiplex;
pub mod pool;
pub mod relay;
mod resolver;
pub mod socket;
pub mod stream;
pub mod streams;
pub mod tls;
pub mod tls_fault;
pub mod tls_listen;
pub mod tunnel;
pub mod unix;
pub mod unreadable;
pub mod workers;
