//! `llama-svf transfer`: an expert for another model of the same layout.

use std::path::PathBuf;

use clap::ValueEnum;

use super::experts::open_expert;
use super::printer;
use crate::error::{exit, Error, Result};
use crate::expert::transfer::Order;
use crate::sidecar::Sidecar;

/// Copy an expert's multipliers onto another model
///
/// The other model needs weights of the same names with as many components, and as many layers. Whether the expert
/// helps there is to be measured (`llama-svf eval`), and compared with the same multipliers in random order.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf transfer maths.expert.gguf --to other.svf.gguf -o other-maths.expert.gguf\n  \
    llama-svf transfer maths.expert.gguf --to other.svf.gguf -o control.expert.gguf --order shuffled --seed 1")]
pub struct Args {
    /// The expert, under another name if one is given
    #[arg(value_name = "[NAME=]FILE")]
    expert: String,
    /// The sidecar of the other model
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// The expert to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How components are carried over
    #[arg(long, value_enum, default_value_t = OrderFlag::Kept)]
    order: OrderFlag,
    /// Seed of the random order
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Replace a file of that name
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum OrderFlag {
    /// The i-th largest to the i-th largest
    Kept,
    /// At random within each weight: the control
    Shuffled,
}

pub fn main(args: &Args) -> Result<u8> {
    if args.output.exists() && !args.force {
        return Err(Error::invalid("exists already").file(&args.output).hint("--force replaces it"));
    }
    let (expert, path) = open_expert(&args.expert)?;
    let sidecar = Sidecar::open(&args.to)?;
    let order = match args.order {
        OrderFlag::Kept => Order::Kept,
        OrderFlag::Shuffled => Order::Shuffled(args.seed),
    };
    let transferred = expert.transferred(&sidecar, order).map_err(|error| error.file(path))?;
    transferred.save(&args.output)?;
    printer::note(format_args!("wrote {}: {}", args.output.display(), transferred.description));
    Ok(exit::DONE)
}
