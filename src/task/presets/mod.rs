//! Task files for well-known data sets. They name the fields of the rows; the rows are the user's.

const PRESETS: [(&str, &str); 7] = [
    ("gsm8k", include_str!("gsm8k.toml")),
    ("hendrycks-math", include_str!("hendrycks-math.toml")),
    ("arc-easy", include_str!("arc-easy.toml")),
    ("arc-challenge", include_str!("arc-challenge.toml")),
    ("mbpp", include_str!("mbpp.toml")),
    ("mbpp-hidden", include_str!("mbpp-hidden.toml")),
    ("humaneval", include_str!("humaneval.toml")),
];

/// The task file of a preset.
pub fn text(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// All presets.
pub fn names() -> Vec<&'static str> {
    PRESETS.iter().map(|(name, _)| *name).collect()
}
