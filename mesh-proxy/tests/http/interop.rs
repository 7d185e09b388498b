//! Programs and libraries that others wrote, as clients and servers at both ends of the stack.

#[path = "interop/envoy.rs"]
mod envoy;
#[path = "interop/grpc.rs"]
mod grpc;
#[path = "interop/programs.rs"]
mod programs;
#[path = "interop/way.rs"]
mod way;
#[path = "interop/websocket.rs"]
mod websocket;
#[path = "interop/wire.rs"]
mod wire;
