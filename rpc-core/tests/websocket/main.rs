//! The WebSocket, against the rules of RFC 6455 and against tungstenite.

mod closing;
mod control;
mod differential;
mod interop;
mod rules;
mod support;
mod tungstenite;
