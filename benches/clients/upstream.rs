//! An upstream that says the same to every request, as cheaply as can be: another thread's work is not counted.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::exchange::Kind;

/// Starts one for exchanges of this kind.
pub(crate) fn start(kind: Kind) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for connection in listener.incoming() {
            // Until the client has enough.
            thread::spawn(move || connection.and_then(|connection| serve(connection, kind)));
        }
    });
    Ok(address)
}

fn serve(mut connection: TcpStream, kind: Kind) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let answer = kind.answer();
    let mut received = Vec::new();
    let mut room = [0; 8192];
    loop {
        let read = connection.read(&mut room)?;
        if read == 0 {
            return Ok(());
        }
        received.extend_from_slice(room.get(..read).unwrap_or_default());
        let end = received.windows(4).position(|it| it == b"\r\n\r\n");
        if end.is_some_and(|end| received.len() == end + 4 + kind.content().len()) {
            received.clear();
            connection.write_all(&answer)?;
        }
    }
}
