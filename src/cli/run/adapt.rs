//! How what pass 1 decided about a reply is told.

use std::fmt::Write as _;

use super::replies::Pass1;
use crate::dispatch::{Cost, Decision};

impl Pass1 {
    /// Time of pass 1 as a share of both passes.
    pub fn share(&self, pass2_ms: f64) -> f64 {
        self.cost.ms / (self.cost.ms + pass2_ms)
    }

    /// One line about it.
    pub fn describe(&self, pass2_ms: f64) -> String {
        let Decision { label, confidence, probabilities, is_fallback, .. } = &self.decision;
        let mut line = format!("{}: {label}, {:.1} % sure", self.strategy, 100.0 * confidence);
        if *is_fallback {
            line += ", less than --threshold: the base model answers";
        }
        let mut others: Vec<_> = probabilities.iter().filter(|(other, _)| other != label).collect();
        others.sort_by(|a, b| b.1.total_cmp(&a.1));
        if !others.is_empty() {
            let others: Vec<_> =
                others.iter().map(|(name, p)| format!("{name} {:.1} %", 100.0 * p)).collect();
            // Writing to a string cannot fail.
            let _ = write!(line, " ({})", others.join(", "));
        }
        let Cost { n_tokens, ms } = self.cost;
        format!(
            "[{line}; pass 1: {n_tokens} tokens in {ms:.0} ms, {:.0} % of both]",
            100.0 * self.share(pass2_ms)
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Args;
    use crate::cli::inputs::ModelFile;
    use crate::cli::run::replies::Prompt;
    use crate::decompose::{decompose, DecomposeOptions};
    use crate::embedded;
    use crate::engine::{ChatMessage, ChatPrompt, Model, Token};
    use crate::expert::Expert;
    use crate::progress::{Interrupt, Silent};
    use crate::sidecar::Sidecar;
    use crate::skills::{question, Skill};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// ln p of every token of the vocabulary, at each place of the answers to `messages`, each a conversation of its own,
    /// with the flags `words`.
    fn log_probs(words: &[&str], messages: &[String]) -> Vec<Vec<Vec<u32>>> {
        let args = Line::parse_from([&["run"], words].concat()).args;
        let file = ModelFile::new(args.model.as_deref()).unwrap();
        let checked = args.check(&file).unwrap();
        let model = Model::load(file.path(), 0).unwrap();
        let mut replies = args.start(&model, checked).unwrap();
        let mut answer = |message: &String| {
            let ChatPrompt { tokens, thinking, .. } =
                model.chat_prompt(&[ChatMessage::user(message.clone())]).unwrap();
            let prompt = Prompt { question: message, tokens, thinking };
            let (_, outcome) = replies.outcome(prompt, model.n_vocab(), |_| Ok(())).unwrap();
            let top = outcome.completion().unwrap().top;
            let of_place = |mut place: Vec<(Token, f32)>| {
                assert!(place.len() == model.n_vocab() && place.iter().all(|(_, p)| p.is_finite()));
                place.sort_by_key(|(token, _)| *token);
                place.into_iter().map(|(_, log_prob)| log_prob.to_bits()).collect()
            };
            top.into_iter().map(of_place).collect()
        };
        messages.iter().map(&mut answer).collect()
    }

    #[test]
    fn the_base_model_answers_to_the_bit_as_it_would_have_without_pass_1() {
        let file = embedded::Temporary::new().unwrap();
        let options = DecomposeOptions::embedded(&file, 2);
        decompose(&options, &Silent, &Interrupt::new()).unwrap();
        let output = options.output;
        let sidecar = Sidecar::open(&output).unwrap();
        let mut words: Vec<String> =
            ["-m", "MODEL", "--chat", "--temp", "0", "-t", "1", "-c", "256"].map(String::from).into();
        words[1] = file.path().display().to_string();
        let bare = words.clone();
        words.extend(["--svf".into(), output.display().to_string()]);
        for name in ["math", "code", "reasoning", "cls"] {
            let mut expert = Expert::identity(name, &sidecar);
            expert.multipliers.values_mut().flatten().for_each(|m| *m = 1.1);
            let path = file.folder().join(format!("{name}.expert.gguf"));
            expert.save(&path).unwrap();
            words.extend(["--expert".into(), path.display().to_string()]);
        }
        // The second begins like the first, which a chat with the base model does not read again.
        let [math, code] = [Skill::Math, Skill::Code].map(|skill| question(skill, false, 31, 2).prompt);
        let messages = [math.clone(), format!("{math} And why?"), code];
        let run = |words: &[String], extra: &[&str]| {
            let words: Vec<_> = words.iter().map(String::as_str).chain(extra.iter().copied()).collect();
            log_probs(&words, &messages)
        };
        // After the prompt, and after some steps too.
        for n in ["1", "8"] {
            let base = run(&bare, &["-n", n]);
            assert_eq!(run(&words, &["-n", n]), base, "the sidecar alone, {n} tokens");
            for extra in [
                &["--adapt", "prompt", "--threshold", "1"][..],
                &["--adapt", "prompt", "--threshold", "1", "--adapt-read", "text"],
                &["--adapt", "classifier", "--threshold", "1"],
                &["--adapt", "prompt", "--strength", "0"],
            ] {
                assert!(run(&words, &[extra, &["-n", n]].concat()) == base, "{extra:?}, {n} tokens");
            }
            let adapted = run(&words, &["--adapt", "prompt", "-n", n]);
            assert!(adapted != base, "an expert answers otherwise, {n} tokens");
        }
    }
}
