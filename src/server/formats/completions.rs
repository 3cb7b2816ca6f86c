//! OpenAI's text completions.

use std::sync::Arc;

use serde_json::{json, Value};

use super::native::final_json;
use super::{accounted, fingerprint, probs_json, progress_json, Answer, Format, Frame, Part, TokenProbs};
use crate::engine::scheduler::Reading;
use crate::server::prompt;
use crate::server::state::{now, State};
use crate::server::wishes::Wishes;

/// Writes answers so.
pub struct Completions {
    pub state: Arc<State>,
    pub wishes: Arc<Wishes>,
    pub id: String,
}

impl Completions {
    fn object(&self, choices: Value) -> Value {
        json!({
            "choices": choices,
            "created": now(),
            "model": self.state.alias,
            "system_fingerprint": fingerprint(),
            "object": "text_completion",
            "id": self.id,
        })
    }

    fn choice(&self, index: usize, text: &str, probs: &[TokenProbs], finish: Option<&str>) -> Value {
        let log_probs = (!probs.is_empty())
            .then(|| json!({ "content": probs_json(probs, &self.wishes, self.state.model()) }));
        json!({ "text": text, "index": index, "logprobs": log_probs, "finish_reason": finish })
    }

    fn text(&self, answer: &Answer) -> String {
        match self.wishes.echo {
            true => {
                let prompt =
                    answer.prompt.iter().flat_map(|&token| self.state.model().piece(token)).collect();
                String::from_utf8(prompt).unwrap_or_else(|_| prompt::text(self.state.model(), &answer.prompt))
                    + &answer.content
            }
            false => answer.content.clone(),
        }
    }
}

fn finish_reason(answer: &Answer) -> &'static str {
    if answer.is_complete() {
        "stop"
    } else {
        "length"
    }
}

impl Format for Completions {
    fn progress(&mut self, answer: &Answer, reading: &Reading) -> Vec<Frame> {
        let mut json = self.object(json!([self.choice(answer.index, "", &[], None)]));
        json["prompt_progress"] = progress_json(reading);
        if self.wishes.timings_per_token {
            json["timings"] = answer.timings.json();
        }
        vec![Frame::Data(json)]
    }

    fn part(&mut self, answer: &Answer, part: Part) -> Vec<Frame> {
        let mut json = self.object(json!([self.choice(answer.index, &part.text, &part.probs, None)]));
        if self.wishes.timings_per_token {
            json["timings"] = answer.timings.json();
        }
        vec![Frame::Data(json)]
    }

    fn end(&mut self, answer: &Answer) -> Vec<Frame> {
        let mut json = self.object(json!([self.choice(answer.index, "", &[], Some(finish_reason(answer)))]));
        json["usage"] = answer.usage();
        json["timings"] = answer.timings.json();
        json["svf"] = answer.chosen.report();
        if self.wishes.is_verbose {
            json["__verbose"] = final_json(&self.state, &self.wishes, answer, true);
        }
        vec![Frame::Data(json)]
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let choice = |answer: &Answer| {
            self.choice(answer.index, &self.text(answer), &answer.probs, Some(finish_reason(answer)))
        };
        let json = self.object(answers.iter().map(choice).collect());
        accounted(json, answers, &self.state, &self.wishes)
    }
}
