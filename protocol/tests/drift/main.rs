//! The drift statistics against an independent implementation: its recorded vectors, and the implementation itself over
//! random inputs.

mod checks;
mod disclosure;
mod oracle;
mod vectors;
