//! `llama-svf export`: an expert for programs that know nothing of experts.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::HumanBytes;
use serde::Serialize;

use super::experts::{Loaded, MixtureArgs};
use super::inputs::ModelFile;
use super::{ctrl_c, printer};
use crate::error::{exit, Error, Result};
use crate::expert::Mixture;
use crate::export::merged::MergedWeight;
use crate::export::{lora, merged, peft, Change, Cut};
use crate::ffi::gguf::GgufFile;
use crate::ffi::tensor_type::{self, TensorType};

/// Write an expert as a LoRA adapter, or the model with it merged in, for programs that know no experts
///
/// What an expert adds to a weight is U·diag(σ·(m-1))·Vᵀ, which is a LoRA adapter as it stands: exact, but for the type it is
/// stored in. Mixtures and strengths are those of `run`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf export lora --svf model.svf.gguf --expert maths.expert.gguf --use maths -o maths.lora.gguf\n  \
    llama-server -m model.gguf --lora maths.lora.gguf                        any llama.cpp loads it\n  \
    llama-svf export lora --svf model.svf.gguf --expert maths.expert.gguf --use maths --tolerance 0.05 -o small.lora.gguf\n  \
    llama-svf export merged -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --use maths -o maths.gguf\n  \
    llama-svf export peft -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --use maths -o maths-peft")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Lora(LoraArgs),
    Merged(MergedArgs),
    Peft(PeftArgs),
}

/// A LoRA adapter that llama.cpp, and what is made with it, loads beside the model
#[derive(clap::Args)]
struct LoraArgs {
    /// The model, to see whether the sidecar is its own [default without --svf: the embedded model]
    #[arg(short, long, value_name = "FILE", requires = "svf")]
    model: Option<PathBuf>,
    #[command(flatten)]
    chosen: MixtureArgs,
    #[command(flatten)]
    cut: CutArgs,
    /// Type of A and B: f32, f16, bf16, q8_0, or keep for that of the sidecar's factors
    #[arg(long = "type", value_name = "TYPE", default_value = "f16")]
    ty: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// The model with the expert in its weights, as a GGUF file like any other
#[derive(clap::Args)]
struct MergedArgs {
    /// The model, a GGUF file [default: the embedded model]
    #[arg(short, long, value_name = "FILE", requires = "svf")]
    model: Option<PathBuf>,
    #[command(flatten)]
    chosen: MixtureArgs,
    /// Type of the weights that change: keep for their own, or f32, f16, bf16, q8_0, …; all others stay as they are
    #[arg(long = "type", value_name = "TYPE", default_value = "keep")]
    ty: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// A folder that Hugging Face's `peft` loads beside the model
#[derive(clap::Args)]
struct PeftArgs {
    /// The model, a GGUF file [default: the embedded model]
    #[arg(short, long, value_name = "FILE", requires = "svf")]
    model: Option<PathBuf>,
    #[command(flatten)]
    chosen: MixtureArgs,
    #[command(flatten)]
    cut: CutArgs,
    /// Type of A and B: f32, f16 or bf16
    #[arg(long = "type", value_name = "TYPE", default_value = "f32")]
    ty: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(clap::Args)]
struct CutArgs {
    /// Keep at most so many components of each weight, those that change it most [default: all that change it]
    #[arg(long, value_name = "N", conflicts_with = "tolerance")]
    rank: Option<NonZeroUsize>,
    /// Keep as few components as leave a relative error of the whole change of at most X
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    tolerance: Option<f64>,
}

#[derive(clap::Args)]
struct OutputArgs {
    /// What to write
    #[arg(short = 'o', long = "output", value_name = "PATH")]
    path: PathBuf,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args) -> Result<u8> {
    match &args.what {
        What::Lora(args) => args.main(),
        What::Merged(args) => args.main(),
        What::Peft(args) => args.main(),
    }
}

impl LoraArgs {
    fn main(&self) -> Result<u8> {
        self.output.check()?;
        let storage = match keep_or(&self.ty)? {
            None => lora::Storage::Kept,
            Some(ty) => lora::Storage::As(ty),
        };
        if let lora::Storage::As(ty) = storage {
            lora::check_type(ty)?;
        }
        let (loaded, mixture) = load(&self.chosen, &ModelFile::new(self.model.as_deref())?)?;
        if let Some(model) = &self.model {
            loaded.sidecar.check_model(&GgufFile::open(model)?)?;
        }
        let change = Change::new(&loaded.sidecar, &loaded.resolve(&mixture)?, self.cut.cut())?;
        let about = about(&mixture, &change, &loaded.sidecar.about.base_name);
        let n_other = lora::write(&self.output.path, &loaded.sidecar, &change, storage, &about)?;
        if n_other > 0 {
            let line =
                format!("{n_other} matrices are f16, because blocks of {} do not fill their rows", self.ty);
            printer::note(format_args!("note: {line}"));
        }
        self.output.tell(&Cuts::new(&loaded, &change), &change, &mixture)
    }
}

impl PeftArgs {
    fn main(&self) -> Result<u8> {
        self.output.check()?;
        let ty = tensor_type::parse(&self.ty).map_err(|error| error.field("--type"))?;
        let file = ModelFile::new(self.model.as_deref())?;
        let (loaded, mixture) = load(&self.chosen, &file)?;
        let change = Change::new(&loaded.sidecar, &loaded.resolve(&mixture)?, self.cut.cut())?;
        let about = about(&mixture, &change, &loaded.sidecar.about.base_name);
        let model = GgufFile::open(file.path())?;
        peft::write(&self.output.path, &model, &loaded.sidecar, &change, ty, &about)?;
        self.output.tell(&Cuts::new(&loaded, &change), &change, &mixture)
    }
}

impl MergedArgs {
    fn main(&self) -> Result<u8> {
        self.output.check()?;
        let storage = match keep_or(&self.ty)? {
            None => merged::Storage::Kept,
            Some(ty) => merged::Storage::As(ty),
        };
        let file = ModelFile::new(self.model.as_deref())?;
        let model = GgufFile::open(file.path())?;
        model.check_is_whole()?;
        let (loaded, mixture) = load(&self.chosen, &file)?;
        let change = Change::new(&loaded.sidecar, &loaded.resolve(&mixture)?, Cut::Nothing)?;
        let weights = merged::write(
            &self.output.path,
            &model,
            &loaded.sidecar,
            &change,
            storage,
            &printer::Bar::new("merging"),
            &ctrl_c::INTERRUPT,
        )?;
        let summary = Merging::new(&weights);
        if matches!(storage, merged::Storage::Kept) {
            let other: Vec<_> = weights.iter().filter(|weight| weight.ty != weight.from).collect();
            if let Some(first) = other.first() {
                printer::note(format_args!(
                    "note: {} weights are {} now, because {} cannot be written",
                    other.len(),
                    first.ty,
                    first.from
                ));
            }
        }
        if summary.rounding > summary.change && summary.change > 0.0 {
            printer::note(
                "note: the rounding of the weights is larger than what the expert changes, so that much of it is lost \
                 (hint: --type q8_0 or f16, or `export lora`)",
            );
        }
        self.output.tell(&summary, &change, &mixture)
    }
}

impl CutArgs {
    fn cut(&self) -> Cut {
        match (self.rank, self.tolerance) {
            (Some(rank), _) => Cut::Rank(rank),
            (None, Some(tolerance)) => Cut::Tolerance(tolerance),
            (None, None) => Cut::Nothing,
        }
    }
}

impl OutputArgs {
    fn check(&self) -> Result<()> {
        match self.path.exists() && !self.force {
            true => Err(Error::invalid("exists already").file(&self.path).hint("--force replaces it")),
            false => Ok(()),
        }
    }

    /// Says what was written.
    fn tell(&self, summary: &impl Summary, change: &Change, mixture: &Mixture) -> Result<u8> {
        let bytes = size(&self.path)?;
        if self.json {
            let path = self.path.display().to_string();
            let mixture = mixture.to_json();
            printer::print_json(&Json { schema: "llama-svf/export/1", path, bytes, mixture, summary })?;
        } else {
            printer::print(&summary.text())?;
        }
        if change.is_nothing() {
            printer::note("note: the mixture changes nothing, this is the base model");
        }
        printer::note(format_args!("wrote {} ({})", self.path.display(), HumanBytes(bytes)));
        Ok(exit::DONE)
    }
}

#[derive(Serialize)]
struct Json<'a, T> {
    schema: &'static str,
    path: String,
    bytes: u64,
    mixture: serde_json::Value,
    #[serde(flatten)]
    summary: &'a T,
}

trait Summary: Serialize {
    fn text(&self) -> String;
}

/// What was kept of a change.
#[derive(Serialize)]
struct Cuts {
    relative_error: f64,
    weights: Vec<CutWeight>,
}

#[derive(Serialize)]
struct CutWeight {
    name: String,
    rank: usize,
    of: usize,
    change: f64,
    relative_error: f64,
}

impl Cuts {
    fn new(loaded: &Loaded, change: &Change) -> Self {
        let of_weight = |part: &crate::export::WeightChange| {
            let weight = &loaded.sidecar.weights[part.index];
            CutWeight {
                name: weight.name.clone(),
                rank: part.rank(),
                of: weight.rank,
                change: part.square.sqrt(),
                relative_error: part.relative_error(),
            }
        };
        Self {
            relative_error: change.relative_error(),
            weights: change.weights.iter().map(of_weight).collect(),
        }
    }
}

impl Summary for Cuts {
    fn text(&self) -> String {
        let width = width(self.weights.iter().map(|weight| weight.name.as_str()));
        let mut text = format!("{:<width$}  {:>11}  {:>9}  {:>9}\n", "weight", "rank", "change", "error");
        for weight in &self.weights {
            let rank = format!("{} of {}", weight.rank, weight.of);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<width$}  {rank:>11}  {:>9.2e}  {:>9.2e}",
                weight.name, weight.change, weight.relative_error
            );
        }
        let _ = writeln!(
            text,
            "change = |W' - W|; error = what is left out of it; of all weights together {:.2e}, beside the rounding of the type",
            self.relative_error
        );
        text
    }
}

/// What merging did.
#[derive(Serialize)]
struct Merging {
    /// |W′ − W| / |W| of all weights that change.
    change: f64,
    /// |W′ as stored − W′| / |W|.
    rounding: f64,
    weights: Vec<MergingWeight>,
}

#[derive(Serialize)]
struct MergingWeight {
    name: String,
    #[serde(rename = "type")]
    ty: &'static str,
    change: f64,
    rounding: f64,
}

impl Merging {
    fn new(weights: &[MergedWeight]) -> Self {
        let sum = |of: fn(&MergedWeight) -> f64| weights.iter().map(|it| of(it).powi(2)).sum::<f64>().sqrt();
        let norm = sum(|it| it.norm).max(f64::MIN_POSITIVE);
        let of_weight = |it: &MergedWeight| {
            let norm = it.norm.max(f64::MIN_POSITIVE);
            let (change, rounding) = (it.change / norm, it.rounding / norm);
            MergingWeight { name: it.name.clone(), ty: it.ty.name(), change, rounding }
        };
        Self {
            change: sum(|it| it.change) / norm,
            rounding: sum(|it| it.rounding) / norm,
            weights: weights.iter().map(of_weight).collect(),
        }
    }
}

impl Summary for Merging {
    fn text(&self) -> String {
        let width = width(self.weights.iter().map(|weight| weight.name.as_str()));
        let mut text = format!("{:<width$}  {:>6}  {:>9}  {:>9}\n", "weight", "type", "change", "rounding");
        let all = MergingWeight {
            name: "all of these".into(),
            ty: "",
            change: self.change,
            rounding: self.rounding,
        };
        for weight in self.weights.iter().chain([&all]) {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<width$}  {:>6}  {:>9.2e}  {:>9.2e}",
                weight.name, weight.ty, weight.change, weight.rounding
            );
        }
        text += "change = |W' - W| / |W|; rounding = |W' as stored - W'| / |W|\n";
        text
    }
}

fn width<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(str::len).chain(["all of these".len()]).max().unwrap_or(0)
}

/// The sidecar with its experts, and the mixture that was chosen.
fn load(chosen: &MixtureArgs, file: &ModelFile) -> Result<(Loaded, Mixture)> {
    if !chosen.is_chosen() {
        return Err(Error::expected("an expert to export", "none")
            .field("--use")
            .hint("--expert FILE --use NAME, or --mix A=0.7,B=0.3"));
    }
    let mixture = chosen.mixture(false)?;
    let n_threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    Ok((chosen.load(file, n_threads)?, mixture))
}

/// What an exported file says of itself.
fn about(mixture: &Mixture, change: &Change, base_name: &str) -> lora::About {
    let of = if base_name.is_empty() { String::new() } else { format!(" of {base_name}") };
    lora::About {
        name: mixture.to_string(),
        description: format!(
            "mixture {mixture}{of}, by llama-svf {}, relative error {:.1e}",
            env!("CARGO_PKG_VERSION"),
            change.relative_error()
        ),
    }
}

/// `keep`, or a type.
fn keep_or(name: &str) -> Result<Option<TensorType>> {
    match name {
        "keep" => Ok(None),
        name => tensor_type::parse(name).map(Some).map_err(|error| error.field("--type").hint("or keep")),
    }
}

/// Bytes of a file, or of the files of a folder.
fn size(path: &Path) -> Result<u64> {
    let cannot_read = |source| Error::io("cannot read", path, source);
    let found = std::fs::metadata(path).map_err(cannot_read)?;
    if found.is_file() {
        return Ok(found.len());
    }
    let files = std::fs::read_dir(path).map_err(cannot_read)?;
    files.map(|file| Ok(file.map_err(cannot_read)?.metadata().map_err(cannot_read)?.len())).sum()
}
