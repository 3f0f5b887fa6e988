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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// What the kernel was told is what it says: whether it then fails a write that nobody
    /// acknowledges is its own affair.
    #[tokio::test]
    async fn a_socket_is_told_when_the_other_end_counts_as_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap());
        let stream = stream.await.unwrap();
        let socket = socket2::SockRef::from(&stream);
        tune(&stream, None).unwrap();
        assert!(stream.nodelay().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOT_SENT_BYTES);
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        let dead_after = Duration::from_secs(35);
        tune(&stream, Some(dead_after)).unwrap();
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(dead_after));
    }
}
