//! The bookinfo application: productpage, details, reviews and ratings in one binary.

mod client;
mod config;
mod details;
mod headers;
mod productpage;
mod ratings;
mod reply;
mod reviews;
mod server;
mod text;

fn main() -> std::process::ExitCode {
    server::run(config::read(std::env::args().skip(1), |name| std::env::var(name).ok()))
}
