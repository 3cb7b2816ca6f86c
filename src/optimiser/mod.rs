//! Pure mathematics of gradient ascent: AdamW, the schedule of its learning rate, clipping.
//!
//! Everything here *maximises*: a positive gradient moves a parameter up.

mod adamw;
mod clip;
mod schedule;

pub use adamw::{AdamW, AdamWOptions};
pub use clip::clip;
pub use schedule::{Schedule, Shape};
