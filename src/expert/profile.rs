//! What an expert's file tells of the questions that it is for, so that a model can choose it for others like them.

use crate::error::{Error, Result};
use crate::ffi::gguf::{GgufFile, GgufHeader};
use crate::ffi::tensor_type::TensorType;

const QUESTIONS: &str = "svf.profile.questions";
const LAYER: &str = "svf.profile.layer";
/// Tensors of the expert's file that are no multipliers begin like this.
pub(super) const PREFIX: &str = "svf.profile.";
const OWN: &str = "svf.profile.own";
const OTHER: &str = "svf.profile.other";

/// Questions of one expert.
pub const MAX_QUESTIONS: usize = 32;
/// Characters of one question.
pub const MAX_QUESTION_CHARS: usize = 1000;
/// Hidden states of one kind.
const MAX_ROWS: usize = 4096;

/// The questions that an expert is for; empty where its file says nothing of them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Profile {
    /// Some as users would ask them, the most typical first.
    pub questions: Vec<String>,
    /// What the base model makes of these and others.
    pub states: Option<States>,
}

/// Hidden states of the base model, each of length 1, where it is about to answer a question.
#[derive(Clone, PartialEq, Debug)]
pub struct States {
    /// The block that leaves them, counted from 0.
    pub layer: u32,
    /// Those of questions that the expert is for.
    pub own: Rows,
    /// Those of questions that no expert is for, to compare with.
    pub other: Rows,
}

/// Vectors of one length, as exact as the file keeps them.
#[derive(Clone, PartialEq, Debug)]
pub struct Rows {
    width: usize,
    values: Vec<f32>,
}

impl Profile {
    /// Whether the file says nothing.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty() && self.states.is_none()
    }

    pub(super) fn read(file: &GgufFile) -> Result<Self> {
        let questions = file.strs(QUESTIONS)?.unwrap_or_default().into_iter().map(str::to_owned).collect();
        let rows = |name: &str| -> Result<Rows> {
            let tensor = file.require_tensor(name)?;
            if tensor.n_dims > 2 || ![TensorType::F16, TensorType::Q8_0].contains(&tensor.ty) {
                let found = format!("{} {}", tensor.ty, tensor.shape());
                return Err(
                    Error::expected("a matrix of type f16 or q8_0", found).field(format!("tensor {name}"))
                );
            }
            Ok(Rows { width: tensor.ne[0], values: file.to_f32(tensor)? })
        };
        let states = match file.u32(LAYER)? {
            None => None,
            Some(layer) => Some(States { layer, own: rows(OWN)?, other: rows(OTHER)? }),
        };
        Ok(Self { questions, states })
    }

    /// Sets the metadata; adds the tensors, whose data it returns by name.
    pub(super) fn write(&self, header: &mut GgufHeader) -> Result<Vec<(&'static str, Vec<u8>)>> {
        if !self.questions.is_empty() {
            header.set_strs(QUESTIONS, &self.questions)?;
        }
        let Some(states) = &self.states else { return Ok(Vec::new()) };
        header.set_u32(LAYER, states.layer)?;
        let mut tensors = Vec::new();
        for (name, rows) in [(OWN, &states.own), (OTHER, &states.other)] {
            let ty = Rows::type_of(rows.width);
            header.add_tensor(name, &[rows.width, rows.len()], ty)?;
            let mut data = Vec::new();
            ty.quantize(&rows.values, rows.width, &mut data)?;
            tensors.push((name, data));
        }
        Ok(tensors)
    }

    /// What must hold for a profile on its own.
    pub(super) fn validate(&self) -> Result<()> {
        if self.questions.len() > MAX_QUESTIONS {
            let expected = format!("at most {MAX_QUESTIONS} questions");
            return Err(Error::expected(expected, self.questions.len()).field(QUESTIONS));
        }
        for question in &self.questions {
            let n = question.chars().count();
            if n > MAX_QUESTION_CHARS || question.trim().is_empty() || question.contains('\0') {
                let expected = format!("questions of 1 to {MAX_QUESTION_CHARS} characters");
                return Err(Error::expected(expected, format!("one of {n}")).field(QUESTIONS));
            }
        }
        let Some(states) = &self.states else { return Ok(()) };
        for (name, rows) in [(OWN, &states.own), (OTHER, &states.other)] {
            let field = || format!("tensor {name}");
            if rows.len() == 0 || rows.len() > MAX_ROWS || rows.width != states.own.width {
                let expected = format!("1 to {MAX_ROWS} rows of {} numbers", states.own.width);
                return Err(
                    Error::expected(expected, format!("{} of {}", rows.len(), rows.width)).field(field())
                );
            }
            if rows.values.iter().any(|x| !x.is_finite()) {
                return Err(Error::expected("finite hidden states", "others").field(field()));
            }
        }
        Ok(())
    }
}

impl Rows {
    /// Rows of `width` numbers, rounded as the file keeps them.
    ///
    /// # Errors
    /// One of another length.
    pub fn new(width: usize, rows: &[Vec<f32>]) -> Result<Self> {
        if let Some(row) = rows.iter().find(|row| row.len() != width) {
            return Err(Error::expected(format!("{width} numbers"), row.len()).field("hidden state"));
        }
        let ty = Self::type_of(width);
        let mut bytes = Vec::new();
        ty.quantize(&rows.concat(), width, &mut bytes)?;
        let mut values = vec![0.0; width * rows.len()];
        ty.dequantize(&bytes, &mut values)?;
        Ok(Self { width, values })
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many there are.
    #[allow(clippy::len_without_is_empty)] // A profile has one or more.
    pub fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// The rows.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// A byte for each number is enough for what varies as much as hidden states do.
    fn type_of(width: usize) -> TensorType {
        match TensorType::Q8_0.row_bytes(width) {
            Some(_) => TensorType::Q8_0,
            None => TensorType::F16,
        }
    }
}
