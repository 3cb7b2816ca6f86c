//! From a model to its sidecar: every selected weight becomes U, σ and Vᵀ.
//!
//! Weights are independent, so each core takes one at a time, largest first, from dequantization to the
//! bytes on the disk; a core for which none is left helps the others. Memory therefore holds a few matrices per
//! thread, never the model, and the file does not depend on the number of threads, on the order in which weights
//! finish, or on interruptions.

mod partial;
mod plan;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

pub use plan::{RankPolicy, Selection};

use crate::embedded;
use crate::error::{Error, Result};
use crate::ffi::gguf::GgufFile;
use crate::ffi::tensor_type::TensorType;
use crate::progress::{Interrupt, Progress};
use crate::sidecar::Sidecar;
use crate::svd::{self, energy_kept, relative_error, Svd};
use partial::{Finished, Partial};
use plan::{Item, Plan};

/// What to convert and how.
#[derive(Clone, Debug)]
pub struct DecomposeOptions {
    /// The model, a GGUF file.
    pub model: PathBuf,
    /// The sidecar to write.
    pub output: PathBuf,
    /// Which weights.
    pub tensors: Selection,
    /// How many singular values of each.
    pub rank: RankPolicy,
    /// Type of U and Vᵀ: F32, F16 or Q8_0. A factor whose rows the type cannot hold is stored as F16.
    pub ty: TensorType,
    /// Cores to use, and with them how many matrices are worked on at a time; 0 means all cores.
    pub threads: usize,
    /// Continue an unfinished conversion, if there is one.
    pub resume: bool,
    /// Replace an existing output, and an unfinished conversion unless `resume` continues it.
    pub force: bool,
}

impl DecomposeOptions {
    /// All weights of the embedded model at full rank, into its own folder.
    pub fn embedded(model: &embedded::Temporary, threads: usize) -> Self {
        Self {
            model: model.path().to_path_buf(),
            output: model.folder().join("embedded.svf.gguf"),
            tensors: Selection::All,
            rank: RankPolicy::Full,
            ty: TensorType::F16,
            threads,
            resume: false,
            force: false,
        }
    }
}

/// The embedded model's sidecar: all weights, full rank, beside the model's file.
///
/// # Errors
/// Those of [`decompose`].
pub fn embedded(
    model: &embedded::Temporary,
    threads: usize,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Sidecar> {
    let options = DecomposeOptions::embedded(model, threads);
    decompose(&options, progress, interrupt)?;
    Sidecar::open(&options.output)
}

/// What a conversion came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The sidecar.
    pub output: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The fingerprint of the model.
    pub fingerprint: String,
    /// The selection, as given.
    pub tensors: String,
    /// The rank, as given.
    pub rank: String,
    /// The type, as given.
    #[serde(rename = "type")]
    pub ty: String,
    /// Every weight, in the model's order.
    pub weights: Vec<WeightReport>,
    /// How long this run took, in seconds.
    pub seconds: f64,
}

/// How well one weight is represented.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct WeightReport {
    /// The weight's name.
    pub name: String,
    /// Columns of W.
    pub n_in: usize,
    /// Rows of W.
    pub n_out: usize,
    /// Singular values kept.
    pub rank: usize,
    /// Stored type of U.
    pub u_type: &'static str,
    /// Stored type of Vᵀ.
    pub vt_type: &'static str,
    /// ‖W − U·diag(σ)·Vᵀ‖ / ‖W‖ (Frobenius) of the factors as stored, with their rounding.
    pub relative_error: f64,
    /// Σσ² of the kept values / ‖W‖², from 0 to 1.
    pub energy_kept: f64,
    /// Whether an earlier run did the work.
    pub resumed: bool,
}

/// Decomposes the selected weights of a model into a sidecar. Progress counts floating-point operations.
///
/// # Errors
/// Bad input or options, found before anything is written; a NaN or infinity in a weight; a failed write;
/// an interrupt, which takes effect when the matrices in work are finished. After the last three `OUT` does
/// not exist (or is still the old one), and what was finished can be continued with `resume`.
pub fn decompose(
    options: &DecomposeOptions,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report> {
    let began = Instant::now();
    check_paths(options)?;
    let model = GgufFile::open(&options.model)?;
    let mut plan = Plan::new(&model, &options.tensors, options.rank, options.ty)?;
    plan.notes.iter().for_each(|line| progress.note(line));

    let (partial, mut finished) = begin(options, &plan, progress)?;
    let done: BTreeSet<String> = finished.keys().cloned().collect();
    let mut left: Vec<&Item> = plan.items.iter().filter(|item| !done.contains(&item.weight.name)).collect();
    // The longest work first, so that no core starts on it when the others have nothing left.
    left.sort_by_key(|item| std::cmp::Reverse(item.cost()));

    let total: u64 = plan.items.iter().map(Item::cost).sum();
    let remaining: u64 = left.iter().map(|item| item.cost()).sum();
    progress.start(total, total - remaining);
    let convert = |item: &Item| -> Result<Finished> {
        interrupt.check().map_err(|e| e.hint("continue with `resume`"))?;
        let (factors, entry) =
            factorise(&model, item).map_err(|e| e.field(&item.weight.name).file(model.path()))?;
        partial.store(item, &factors, &entry)?;
        progress.advance(item.cost());
        Ok(entry)
    };
    // The bridge hands out one matrix at a time, in order.
    let results: Result<Vec<Finished>> =
        pool(options.threads)?.install(|| left.into_iter().par_bridge().map(convert).collect());
    progress.finish();
    finished.extend(results?.into_iter().map(|entry| (entry.weight.clone(), entry)));
    partial.finish(&plan.header.encode(&checksums(&plan.items, &finished)?)?)?;

    Ok(Report {
        output: options.output.clone(),
        bytes: plan.header.total_size() as u64,
        fingerprint: plan.fingerprint.to_string(),
        tensors: options.tensors.to_string(),
        rank: options.rank.to_string(),
        ty: options.ty.to_string(),
        weights: plan
            .items
            .iter()
            .filter_map(|item| {
                let name = &item.weight.name;
                finished.get(name).map(|entry| report(item, entry, done.contains(name)))
            })
            .collect(),
        seconds: began.elapsed().as_secs_f64(),
    })
}

fn check_paths(options: &DecomposeOptions) -> Result<()> {
    let DecomposeOptions { model, output, resume, force, .. } = options;
    if output.exists() && !output.is_file() {
        return Err(Error::expected("the name of a file to write", "a folder or device").file(output));
    }
    // Two names can mean one file.
    if let (Ok(model), Ok(output)) = (model.canonicalize(), output.canonicalize()) {
        if model == output {
            return Err(Error::invalid("the output would replace the model")
                .file(output)
                .hint("choose another `output`"));
        }
    }
    if output.exists() && !force {
        return Err(Error::invalid("exists already").file(output).hint("`force` replaces it"));
    }
    let part = partial::data_path(output);
    if part.exists() && !resume && !force {
        return Err(Error::invalid("an unfinished conversion is there")
            .file(part)
            .hint("`resume` continues it, `force` starts over"));
    }
    Ok(())
}

/// The files to write into, and what they already hold, by weight name.
fn begin(
    options: &DecomposeOptions,
    plan: &Plan,
    progress: &dyn Progress,
) -> Result<(Partial, BTreeMap<String, Finished>)> {
    let settings = json!({
        "model": plan.fingerprint.as_str(),
        "rank": options.rank.to_string(),
        "svd": svd::METHOD,
        "tensors": options.tensors.to_string(),
        "type": options.ty.to_string(),
        "written": plan.layout_digest(),
    });
    let size = plan.header.total_size();
    if options.resume {
        if let Some((partial, finished)) = Partial::resume(&options.output, &settings, &plan.items, size)? {
            progress.note(&format!(
                "resuming: {} of {} weights are finished",
                finished.len(),
                plan.items.len()
            ));
            let finished = finished.into_iter().map(|entry| (entry.weight.clone(), entry)).collect();
            return Ok((partial, finished));
        }
    }
    let partial = Partial::create(&options.output, &settings, size)?;
    Ok((partial, BTreeMap::new()))
}

fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Error::invalid(format!("cannot start {threads} threads: {e}")).field("threads"))
}

/// The bytes of U, σ and Vᵀ, and how well they represent the weight.
fn factorise(model: &GgufFile, item: &Item) -> Result<([Vec<u8>; 3], Finished)> {
    let w = model.to_f32(&item.weight)?;
    let Svd { u, sigma, vt, .. } = Svd::new(&w, item.n_out, item.n_in, item.rank)?;
    let (u_bytes, u) = stored(&u, item.rank, item.u_type)?;
    let (sigma_bytes, _) = stored(&sigma, item.rank, TensorType::F32)?;
    let (vt_bytes, vt) = stored(&vt, item.n_in, item.vt_type)?;
    let factors = [u_bytes, sigma_bytes, vt_bytes];
    let entry = Finished {
        weight: item.weight.name.clone(),
        hashes: factors.each_ref().map(|bytes| blake3::hash(bytes).to_hex().to_string()),
        relative_error: relative_error(&w, &u, &sigma, &vt),
        energy_kept: energy_kept(&w, &sigma),
    };
    if !entry.relative_error.is_finite() {
        return Err(Error::invalid("its values are too large to be rebuilt in f32"));
    }
    Ok((factors, entry))
}

/// Rows as `ty` stores them: their bytes, and the values that those bytes stand for.
fn stored(rows: &[f32], row_len: usize, ty: TensorType) -> Result<(Vec<u8>, Vec<f32>)> {
    let mut bytes = Vec::new();
    ty.quantize(rows, row_len, &mut bytes)?;
    let mut values = vec![0.0; rows.len()];
    ty.dequantize(&bytes, &mut values)?;
    Ok((bytes, values))
}

/// The checksum of every tensor of the output, by its name.
fn checksums(items: &[Item], finished: &BTreeMap<String, Finished>) -> Result<HashMap<String, blake3::Hash>> {
    let mut checksums = HashMap::new();
    for item in items {
        let hashes = finished.get(&item.weight.name).map(|entry| &entry.hashes);
        for (factor, hash) in item.factors.iter().zip(hashes.into_iter().flatten()) {
            let hash = blake3::Hash::from_hex(hash)
                .map_err(|_| Error::expected("a checksum", format!("'{hash}'")).field(&factor.name))?;
            checksums.insert(factor.name.clone(), hash);
        }
    }
    Ok(checksums)
}

fn report(item: &Item, finished: &Finished, resumed: bool) -> WeightReport {
    WeightReport {
        name: item.weight.name.clone(),
        n_in: item.n_in,
        n_out: item.n_out,
        rank: item.rank,
        u_type: item.u_type.name(),
        vt_type: item.vt_type.name(),
        relative_error: finished.relative_error,
        energy_kept: finished.energy_kept,
        resumed,
    }
}
