//! `meshctl`: the operator's command line, and the local mesh that it runs.

pub mod cli;
pub mod control;
pub mod kinds;
pub mod load;
pub mod localmesh;
pub mod manifest;
pub mod node;
pub mod top;
