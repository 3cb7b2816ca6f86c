//! Writes a sidecar of random factors for a model, to measure the speed of experts on a model that takes long to
//! decompose. It describes nothing: only `--form residual` answers as the model does, and only without an expert.
//!
//! `cargo run --release --example random_sidecar -- -m model.gguf --rank full -o model.svf.gguf`

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use clap::Parser;
use llama_svf::decompose::{RankPolicy, Selection};
use llama_svf::error::{Error, Result};
use llama_svf::ffi::gguf::GgufFile;
use llama_svf::ffi::tensor_type::{self, TensorType};
use llama_svf::sidecar::{About, Fingerprint, SidecarHeader};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Write a sidecar of random factors.
#[derive(Parser)]
struct Args {
    /// The model.
    #[arg(short, long)]
    model: PathBuf,
    /// Weights: ffn, attn, all or a regular expression.
    #[arg(long, default_value = "ffn", value_parser = Selection::parse)]
    tensors: Selection,
    /// Singular values of each weight: full or a number.
    #[arg(long, default_value = "full", value_parser = RankPolicy::parse)]
    rank: RankPolicy,
    /// Type of the factors: f32, f16 or q8_0; f16 where rows do not fit its blocks.
    #[arg(long = "type", default_value = "q8_0", value_parser = tensor_type::parse)]
    ty: TensorType,
    /// Chooses the values.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File to write.
    #[arg(short, long)]
    output: PathBuf,
}

/// One tensor to write.
enum Factor {
    SingularValues(usize),
    Vectors { ty: TensorType, row_len: usize, rows: usize },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let model = GgufFile::open(&args.model)?;
    let about = About {
        base_name: model.str("general.name")?.unwrap_or("unnamed").to_owned(),
        architecture: model.require_str("general.architecture")?.to_owned(),
        rank: match args.rank {
            RankPolicy::Full => None,
            RankPolicy::AtMost(n) => Some(n.get()),
        },
        selection: args.tensors.to_string(),
        factor_type: args.ty,
    };
    let mut header = SidecarHeader::new(&Fingerprint::of_model(&model)?, &about)?;
    let mut factors = Vec::new();
    let selected = |name: &str| name.ends_with(".weight") && args.tensors.matches(name);
    for weight in model.tensors().iter().filter(|weight| weight.n_dims == 2 && selected(&weight.name)) {
        let [n_in, n_out, ..] = weight.ne;
        let rank = args.rank.of(n_out, n_in);
        let fitting = |row_len| args.ty.row_bytes(row_len).map_or(TensorType::F16, |_| args.ty);
        let (u, vt) = (fitting(rank), fitting(n_in));
        header.add_weight(&weight.name, [n_in, n_out], rank, u, vt)?;
        factors.extend([
            Factor::Vectors { ty: u, row_len: rank, rows: n_out },
            Factor::SingularValues(rank),
            Factor::Vectors { ty: vt, row_len: n_in, rows: rank },
        ]);
    }
    anyhow::ensure!(!factors.is_empty(), "no matrix of the model is selected by '{}'", args.tensors);
    write(&mut header, &factors, args.seed, &args.output)?;
    Ok(())
}

fn write(header: &mut SidecarHeader, factors: &[Factor], seed: u64, path: &Path) -> Result<()> {
    let failed = |error| Error::io("cannot write", path, error);
    let mut file = File::create(path).map_err(failed)?;
    file.set_len(header.total_size() as u64).map_err(failed)?;
    let mut checksums = HashMap::new();
    for (i, (name, factor)) in header.tensors().iter().zip(factors).enumerate() {
        let bytes = factor.random(seed, i as u64)?;
        let offset =
            header.data_offset(name).ok_or_else(|| Error::invalid("not in the header").field(name))?;
        file.seek(SeekFrom::Start(offset as u64)).and_then(|_| file.write_all(&bytes)).map_err(failed)?;
        checksums.insert(name.clone(), blake3::hash(&bytes));
    }
    let header = header.encode(&checksums)?;
    file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&header)).map_err(failed)
}

impl Factor {
    /// Vectors of about length 1, and singular values of 1.
    fn random(&self, seed: u64, stream: u64) -> Result<Vec<u8>> {
        let (ty, row_len, rows) = match *self {
            Self::SingularValues(n) => return Ok(1f32.to_le_bytes().repeat(n)),
            Self::Vectors { ty, row_len, rows } => (ty, row_len, rows),
        };
        let scale = (3.0 / row_len as f32).sqrt();
        let row = |row: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream << 32 | row as u64);
            let values: Vec<f32> = (0..row_len).map(|_| scale * rng.random_range(-1.0..1.0f32)).collect();
            let mut bytes = Vec::new();
            ty.quantize(&values, row_len, &mut bytes).map(|()| bytes)
        };
        Ok((0..rows).into_par_iter().map(row).collect::<Result<Vec<_>>>()?.concat())
    }
}
