//! A sidecar: ranks and spectra.

use std::fmt::Write as _;
use std::path::Path;

use indicatif::HumanBytes;
use serde::Serialize;

use super::{name_width, plain, printer, spark, View};
use crate::error::Result;
use crate::sidecar::{AdaptedWeight, Sidecar};

#[derive(Serialize)]
pub struct SidecarView {
    base_name: String,
    architecture: String,
    fingerprint: String,
    tensors: String,
    rank: String,
    #[serde(rename = "type")]
    ty: &'static str,
    full_rank: bool,
    bytes: usize,
    n_components: usize,
    weights: Vec<WeightView>,
}

#[derive(Serialize)]
struct WeightView {
    name: String,
    n_in: usize,
    n_out: usize,
    rank: usize,
    u_type: &'static str,
    vt_type: &'static str,
    bytes: usize,
    sigma_max: f32,
    sigma_min: f32,
    /// Σσ² of the largest eighth of the components ÷ Σσ² of all that are stored.
    energy_of_first_eighth: f64,
    /// How many of the largest components hold 90 % of the stored Σσ².
    components_for_90_percent: usize,
    /// σ, averaged over neighbours.
    spectrum: Vec<f32>,
}

/// Describes the sidecar at `path`; with `verify`, the second value says whether its data are in order.
pub fn view(path: &Path, verify: bool) -> Result<(View, Result<()>)> {
    let sidecar = Sidecar::open(path)?;
    let verdict = if verify { sidecar.verify(&printer::Bar::new("verifying")) } else { Ok(()) };
    let about = &sidecar.about;
    let view = SidecarView {
        base_name: about.base_name.clone(),
        architecture: about.architecture.clone(),
        fingerprint: sidecar.fingerprint.to_string(),
        tensors: about.selection.clone(),
        rank: about.rank.map_or("full".into(), |rank| rank.to_string()),
        ty: about.factor_type.name(),
        full_rank: sidecar.is_full_rank(),
        bytes: sidecar.file().mmap().len(),
        n_components: sidecar.weights.iter().map(|weight| weight.rank).sum(),
        weights: sidecar.weights.iter().map(WeightView::new).collect(),
    };
    Ok((View::Sidecar(view), verdict))
}

impl WeightView {
    fn new(weight: &AdaptedWeight) -> Self {
        let energy: Vec<f64> = weight.sigma.iter().map(|&s| f64::from(s) * f64::from(s)).collect();
        let whole: f64 = energy.iter().sum();
        let first: f64 = energy[..weight.rank.div_ceil(8)].iter().sum();
        let mut so_far = 0.0;
        let needed = energy.iter().take_while(|&&part| {
            let is_needed = so_far < 0.9 * whole;
            so_far += part;
            is_needed
        });
        Self {
            name: weight.name.clone(),
            n_in: weight.n_in,
            n_out: weight.n_out,
            rank: weight.rank,
            u_type: weight.u.ty.name(),
            vt_type: weight.vt.ty.name(),
            bytes: weight.u.n_bytes + weight.vt.n_bytes + size_of_val(weight.sigma.as_slice()),
            sigma_max: weight.sigma[0],
            sigma_min: weight.sigma[weight.rank - 1],
            energy_of_first_eighth: if whole > 0.0 { first / whole } else { 1.0 },
            components_for_90_percent: needed.count(),
            spectrum: spark::resample(&weight.sigma),
        }
    }
}

impl SidecarView {
    pub fn text(&self, path: &Path) -> String {
        let mut text = format!(
            "sidecar of {} ({}), {}\n\
             base model {}\n\
             {} weights ({}), rank {}, {} components in all\n\n",
            plain(&self.base_name),
            plain(&self.architecture),
            HumanBytes(self.bytes as u64),
            self.fingerprint,
            self.weights.len(),
            plain(&self.tensors),
            self.rank,
            self.n_components
        );
        let width = name_width(self.weights.iter().map(|weight| weight.name.as_str()));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<width$}  {:>13}  {:>5}  {:<9}  {:<columns$}  {:>8}  {:>8}  {:>5}  {:>6}",
            "weight",
            "shape",
            "rank",
            "U, Vt",
            "spectrum",
            "largest",
            "smallest",
            "1/8",
            "90 %",
            columns = spark::COLUMNS
        );
        for weight in &self.weights {
            let _ = writeln!(
                text,
                "{:<width$}  {:>13}  {:>5}  {:<9}  {:<columns$}  {:>8.3}  {:>8.3}  {:>3.0} %  {:>6}",
                plain(&weight.name),
                format!("{} x {}", weight.n_out, weight.n_in),
                weight.rank,
                types(weight),
                spark::line(&weight.spectrum, weight.sigma_max),
                weight.sigma_max,
                weight.sigma_min,
                100.0 * weight.energy_of_first_eighth,
                weight.components_for_90_percent,
                columns = spark::COLUMNS
            );
        }
        let _ = writeln!(
            text,
            "\nspectrum = singular values from largest to smallest; 1/8 = share of the stored energy (sum of \
             squares) in the first eighth; 90 % = components that hold nine tenths of it\n\n\
             try it: llama-svf run -m MODEL.gguf --svf {} --expert FILE --use NAME -p PROMPT",
            path.display()
        );
        text
    }
}

fn types(weight: &WeightView) -> String {
    match weight.u_type == weight.vt_type {
        true => weight.u_type.to_owned(),
        false => format!("{}, {}", weight.u_type, weight.vt_type),
    }
}
