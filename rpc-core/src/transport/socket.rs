//! What a TCP socket is told, at either end of a connection.

use std::{io, time::Duration};

use tokio::net::TcpStream;

/// So many bytes may stand in the kernel's buffer and not be sent yet. What waits beyond that waits
/// here, where what is more urgent still goes first.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOT_SENT_BYTES: u32 = 128 << 10;

/// Prepares a socket for small messages that are not to wait for others, or behind large ones.
///
/// What was written and is not acknowledged by the other end's kernel for longer than `dead_after`
/// fails the connection, where the system can be told so (Linux: `TCP_USER_TIMEOUT`).
///
/// # Errors
/// When the socket is no longer of use.
pub fn tune(stream: &TcpStream, dead_after: Option<Duration>) -> io::Result<()> {
    // Small frames are written when they are ready, not when others have joined them.
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // A kernel that does not know it does without.
        let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT_BYTES);
        if dead_after.is_some() {
            let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(dead_after);
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = dead_after;
    Ok(())
}
