//! What a TCP socket is told, at either end of a connection.

use std::io;

use tokio::net::TcpStream;

/// So many bytes may stand in the kernel's buffer and not be sent yet. What waits beyond that waits
/// here, where what is more urgent still goes first.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOT_SENT_BYTES: u32 = 128 << 10;

/// Prepares a socket for small messages that are not to wait for others, or behind large ones.
///
/// # Errors
/// When the socket is no longer of use.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    // Small frames are written when they are ready, not when others have joined them.
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // A kernel that does not know it does without.
        let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT_BYTES);
    }
    Ok(())
}
