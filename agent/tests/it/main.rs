//! The agent's stories, in one binary: real processes, real sockets, real models.

mod age;
mod board;
mod corpus;
mod hardware;
mod inference;
mod life;
mod privacy;

// Where the fuzzer has it too.
use muster_agent::oip;
