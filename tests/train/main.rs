//! Training: the mathematics, toy problems solved by the real loop, runs that are stopped and go on, and the
//! command.

mod command;
mod learning;
mod likelihood;
mod lora;
mod maths;
mod stops;
mod toy;
