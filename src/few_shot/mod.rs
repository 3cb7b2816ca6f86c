//! Few-shot adaptation to a task (arXiv 2501.06252, section 3.2, strategy C): the mixture of experts that answers a few
//! examples best.
//!
//! [`FewShot`] scores mixtures on examples and searches among them; [`SearchProblem`] is the whole procedure for a task.

mod population;
mod search;
mod search_file;

pub use population::{FewShot, Found, Generation, State};
pub use search::{first_items, Search, SearchOptions, SearchProblem, Searched};
pub use search_file::SearchFile;
