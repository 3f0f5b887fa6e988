//! What one end of a connection does with what the other sends, without a socket: two ends in one
//! hand, and frames that no honest end would write.

mod counting;
mod end;
mod handshake;
mod ids;
mod limits;
mod methods;
mod options;
mod streams;
mod window;
