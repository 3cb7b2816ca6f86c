//! Where the adapted layers of a session run, and how.

use std::fmt;

use serde::Serialize;

use crate::ffi::context::Way;
use crate::ffi::device::{backends, Device};

/// The adapted layers of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// ggml's name of the device, such as `CPU` or `CUDA0`.
    pub device: String,
    /// Whether it is the CPU.
    pub is_cpu: bool,
    /// Layers that run as the fused op.
    pub fused: usize,
    /// Layers that run as stock ops, all on this device.
    pub composed: usize,
    /// Layers that run as stock ops of which another device has to compute some.
    pub away: usize,
}

impl Placement {
    /// Counts `ways` by device, in the order in which devices appear.
    pub(super) fn count(ways: Vec<(Device, Way)>) -> Vec<Self> {
        let mut counted: Vec<(Device, Self)> = Vec::new();
        for (device, way) in ways {
            let at = counted.iter().position(|(known, _)| *known == device).unwrap_or_else(|| {
                let placement =
                    Self { device: device.name(), is_cpu: device.is_cpu(), fused: 0, composed: 0, away: 0 };
                counted.push((device, placement));
                counted.len() - 1
            });
            let placement = &mut counted[at].1;
            *match way {
                Way::Fused => &mut placement.fused,
                Way::Composed => &mut placement.composed,
                Way::CrossDevice => &mut placement.away,
            } += 1;
        }
        counted.into_iter().map(|(_, placement)| placement).collect()
    }

    /// All in one line; `None` in a build for the CPU alone that uses no other machine, where it goes without saying.
    pub fn line(placements: &[Self]) -> Option<String> {
        let gpus: Vec<_> =
            backends().into_iter().filter(|name| !ON_THE_CPU.contains(&name.as_str())).collect();
        let is_found = |name: &String| Device::all().iter().any(|device| device.backend() == *name);
        let idle: Vec<_> = gpus.iter().filter(|name| !is_found(name)).cloned().collect();
        let is_told = !gpus.is_empty() || placements.iter().any(|placement| !placement.is_cpu);
        is_told.then(|| Self::line_with(placements, &idle))
    }

    /// The same in a build for GPUs, where the backends `idle` have no device.
    fn line_with(placements: &[Self], idle: &[String]) -> String {
        let devices: Vec<_> = placements.iter().map(Self::to_string).collect();
        let mut line = format!("adapted layers: {}", devices.join("; "));
        if !idle.is_empty() {
            line += &format!(" (built for {}, which found no device)", idle.join(", "));
        }
        line
    }
}

/// Backends of ggml that compute in main memory.
const ON_THE_CPU: [&str; 2] = ["CPU", "BLAS"];

/// Such as `CUDA0 40 fused, 2 composed`.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.device)?;
        let ways = [
            (self.fused, "fused"),
            (self.composed, "composed"),
            (self.away, "composed and partly on another device"),
        ];
        for (i, (count, way)) in ways.into_iter().filter(|(count, _)| *count > 0).enumerate() {
            write!(f, "{}{count} {way}", if i == 0 { " " } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_there_is() {
        let all = Placement { device: "CUDA0".into(), is_cpu: false, fused: 40, composed: 2, away: 1 };
        assert_eq!(all.to_string(), "CUDA0 40 fused, 2 composed, 1 composed and partly on another device");
        let fused = Placement { device: "CPU".into(), is_cpu: true, fused: 3, composed: 0, away: 0 };
        assert_eq!(fused.to_string(), "CPU 3 fused");
        assert_eq!(
            Placement::line_with(&[all, fused.clone()], &[]),
            "adapted layers: CUDA0 40 fused, 2 composed, 1 composed and partly on another device; CPU 3 fused"
        );
        assert_eq!(
            Placement::line_with(&[fused], &["CUDA".into()]),
            "adapted layers: CPU 3 fused (built for CUDA, which found no device)"
        );
    }

    #[test]
    fn layers_are_counted_by_device() {
        let cpu = Device::cpu();
        let counted = Placement::count(vec![(cpu, Way::Fused), (cpu, Way::CrossDevice), (cpu, Way::Fused)]);
        let expected = Placement { device: "CPU".into(), is_cpu: true, fused: 2, composed: 0, away: 1 };
        assert_eq!(counted, [expected]);
    }
}
