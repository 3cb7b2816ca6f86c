//! What the command line calls the library's settings, and the functions that its errors advise: by these words errors
//! are told to users.

/// The library's word, and the command line's.
const WORDS: [(&str, &str); 92] = [
    // Sampling.
    ("temperature", "--temp"),
    ("top_p", "--top-p"),
    ("min_p", "--min-p"),
    ("typical_p", "--typical"),
    ("top_n_sigma", "--top-nsigma"),
    ("repeat_penalty", "--repeat-penalty"),
    ("presence_penalty", "--presence-penalty"),
    ("frequency_penalty", "--frequency-penalty"),
    ("dry_multiplier", "--dry-multiplier"),
    ("dry_base", "--dry-base"),
    ("dry_sequence_breakers", "--dry-sequence-breaker"),
    ("xtc_probability", "--xtc-probability"),
    ("xtc_threshold", "--xtc-threshold"),
    ("mirostat", "--mirostat"),
    ("mirostat_tau", "--mirostat-ent"),
    ("mirostat_eta", "--mirostat-lr"),
    ("logit_bias", "--logit-bias"),
    ("grammar", "--grammar"),
    ("prompt", "-p"),
    ("max_tokens", "--max-tokens"),
    // Sessions.
    ("n_ctx", "context (-c)"),
    ("n_batch", "--batch-size"),
    ("n_ubatch", "--ubatch-size"),
    ("n_threads", "--threads"),
    ("threads", "--threads"),
    ("form", "--form"),
    ("Form::Residual", "--form residual"),
    // Files.
    ("Model::load", "-m"),
    ("Model::load_lora", "--lora"),
    ("Sidecar::open", "--svf"),
    ("Sidecar::verify", "`llama-svf inspect --verify`"),
    ("GgufFile::tensors", "llama-svf inspect"),
    ("output", "-o"),
    ("path", "-o"),
    ("trace", "--trace"),
    ("resume", "--resume"),
    ("force", "--force"),
    ("Earlier::Resume", "--resume"),
    ("Earlier::Replace", "--force"),
    // Serving.
    ("port", "--port"),
    ("rpc", "--rpc"),
    ("Offer::serve", "`llama-svf rpc-server --host ADDRESS`"),
    ("hosts", "--host"),
    // Experts.
    ("Expert::open", "--expert NAME=FILE"),
    ("Expert::name", "name with --expert NAME=FILE"),
    ("strength", "--strength"),
    // Decomposing.
    ("decompose", "`llama-svf decompose -m MODEL`"),
    ("tensors", "--tensors"),
    ("rank", "--rank"),
    ("RankPolicy::Full", "--rank full"),
    // Tasks.
    ("seen", "--task"),
    ("against", "--against"),
    ("data", "--data"),
    ("allow_exec", "--allow-exec"),
    ("samples", "--samples"),
    // Training.
    ("schedule.steps", "--steps"),
    ("schedule.peak", "--lr"),
    ("prompts", "--prompts"),
    ("step_kl", "--step-kl"),
    ("clip", "--clip"),
    ("layers", "--layers"),
    ("memory", "--memory"),
    ("adam.decay", "--decay"),
    ("kl", "--kl"),
    ("validate_every", "--validate-every"),
    ("validation_items", "--validation-items"),
    ("patience", "--patience"),
    ("Options::reference", "--reference"),
    ("objective", "--objective"),
    ("reward", "--reward"),
    ("estimator", "--estimator"),
    ("Evolution", "--estimator evolution"),
    // Choosing experts.
    ("strategy", "--adapt"),
    ("nearest", "--adapt nearest"),
    ("reading", "--adapt-read"),
    ("blend", "--blend"),
    ("describe", "llama-svf describe"),
    ("examples", "--examples"),
    ("adapt_prompt", "--adapt-prompt"),
    ("classifier", "--classifier"),
    ("threshold", "--threshold"),
    ("Choice::Oracle", "--against oracle"),
    // Exporting.
    ("type", "--type"),
    ("tolerance", "--tolerance"),
    ("export lora", "llama-svf export lora"),
    // Searching for mixtures.
    ("groups", "--groups"),
    ("population", "--population"),
    ("elites", "--elites"),
    ("generations", "--generations"),
    ("n_shots", "--shots"),
    ("n_select", "--select"),
    // Measuring speed.
    ("rounds", "--rounds"),
];

/// The command line's word for `name`.
pub fn word(name: &str) -> Option<&'static str> {
    WORDS.iter().find(|(known, _)| *known == name).map(|(_, word)| *word)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_flag_of_the_table_is_one_of_a_command() {
        let cli = super::super::Cli::command();
        let (mut flags, mut commands) = (BTreeSet::new(), vec![&cli]);
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands());
            for argument in command.get_arguments() {
                flags.extend(argument.get_long().map(|name| format!("--{name}")));
                flags.extend(argument.get_short().map(|name| format!("-{name}")));
            }
        }
        for (name, word) in WORDS {
            let parts = word.split([' ', '(', ')', '`']);
            for flag in parts.filter(|part| part.starts_with('-')) {
                assert!(flags.contains(flag), "{name}: no command has {flag}");
            }
            assert_eq!(WORDS.iter().filter(|(other, _)| *other == name).count(), 1, "{name}");
        }
    }
}
