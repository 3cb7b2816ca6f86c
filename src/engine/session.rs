//! One llama.cpp context with its sequences, slots and experts.
//!
//! A *slot* holds one mixture; a *sequence* uses one slot. The KV cache of a sequence was computed with
//! its mixture and the LoRA adapters, so none of these can change under a sequence that holds tokens: that
//! is an error, never a silently wrong answer.

use std::ops::Range;
use std::sync::Arc;

use crate::engine::{AdaptedModel, GraphOp, Lora, Model, Placement, Token};
use crate::error::{Error, Result};
use crate::expert::{ExpertSet, Mixture, ResolvedMixture};
use crate::ffi::context::{BatchToken, Context, ContextOptions, Form};
use crate::ffi::tensor_type::TensorType;

/// Most sequences llama.cpp serves in one context.
const MAX_SEQUENCES: u32 = 256;

/// Element type of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// Half precision, llama.cpp's default.
    F16,
    /// Single precision, for comparisons.
    F32,
}

/// What a session is made with.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Tokens of KV cache over all sequences; 0 takes the model's own context length.
    pub n_ctx: u32,
    /// Most tokens of one decode.
    pub n_batch: u32,
    /// Most tokens llama.cpp computes at once.
    pub n_ubatch: u32,
    /// Threads.
    pub n_threads: u32,
    /// Most sequences.
    pub n_seq: u32,
    /// Element type of the KV cache.
    pub kv: KvType,
    /// Fused attention.
    pub flash_attention: bool,
    /// Whether all sequences share the KV cache. Otherwise each has an equal part of its own, rounded up to
    /// 256 tokens, and attention does not have to look for its cells among those of the others.
    pub kv_unified: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        let n_threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        Self {
            n_ctx: 0,
            n_batch: 2048,
            n_ubatch: 512,
            n_threads,
            n_seq: 1,
            kv: KvType::F16,
            flash_attention: true,
            kv_unified: true,
        }
    }
}

/// How the adapted layers run.
#[derive(Clone, Copy, Debug)]
pub struct AdapterOptions {
    /// Residual, or factored (full-rank sidecars only).
    pub form: Form,
    /// Which implementation of the op.
    pub op: GraphOp,
    /// Slots, with slot 0 for the base model.
    pub n_slots: u32,
}

/// One token to decode.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Sequence.
    pub seq: u32,
    /// Vocabulary id.
    pub token: Token,
    /// Whether its logits are wanted.
    pub output: bool,
}

/// A context, its sequences and its slots.
pub struct Session {
    context: Context,
    model: Arc<Model>,
    sequences: Vec<Sequence>,
    adapter: Option<Adapter>,
    kv: KvType,
    /// Which decodes fail, for tests.
    #[cfg(test)]
    pub(crate) refuses: Option<Refuses>,
}

#[cfg(test)]
pub(crate) type Refuses = Box<dyn FnMut(&[Input]) -> bool + Send>;

#[derive(Clone, Copy, Default)]
struct Sequence {
    n_past: u32,
    slot: u32,
}

struct Adapter {
    adapted: Arc<AdaptedModel>,
    experts: ExpertSet,
    form: Form,
    mixtures: Vec<Mixture>,
}

impl Session {
    /// A session that runs the base model.
    ///
    /// # Errors
    /// An option out of range, or llama.cpp cannot create the context, mostly for want of memory.
    pub fn new(model: &Arc<Model>, options: &SessionOptions) -> Result<Self> {
        for (setting, value) in [
            ("n_batch", options.n_batch),
            ("n_ubatch", options.n_ubatch),
            ("n_threads", options.n_threads),
            ("n_seq", options.n_seq),
        ] {
            if value == 0 {
                return Err(Error::expected("1 or more", 0).setting(setting));
            }
        }
        if options.n_seq > MAX_SEQUENCES {
            return Err(Error::expected(format!("at most {MAX_SEQUENCES}"), options.n_seq).setting("n_seq"));
        }
        let context = Context::new(
            &model.handle,
            &ContextOptions {
                n_ctx: options.n_ctx,
                n_batch: options.n_batch,
                n_ubatch: options.n_ubatch,
                n_threads: options.n_threads,
                n_seq: options.n_seq,
                kv: match options.kv {
                    KvType::F16 => TensorType::F16,
                    KvType::F32 => TensorType::F32,
                },
                flash_attention: options.flash_attention,
                kv_unified: options.kv_unified,
            },
        )
        .map_err(|error| error.file(model.file().path()))?;
        let sequences = vec![Sequence::default(); options.n_seq as usize];
        Ok(Self {
            context,
            model: Arc::clone(model),
            sequences,
            adapter: None,
            kv: options.kv,
            #[cfg(test)]
            refuses: None,
        })
    }

    /// A session with adapted layers; every slot starts as the base model.
    ///
    /// # Errors
    /// Those of [`Self::new`], no slots, [`Form::Factored`] with a sidecar that is cut off, or an op that a device does not have.
    pub fn adapted(
        adapted: &Arc<AdaptedModel>,
        options: &SessionOptions,
        adapter: &AdapterOptions,
    ) -> Result<Self> {
        let sidecar = adapted.sidecar();
        let at_sidecar = |error: Error| error.file(sidecar.file().path());
        if adapter.form == Form::Factored && !sidecar.is_full_rank() {
            return Err(at_sidecar(
                Error::invalid("the factored form needs every singular value, and this sidecar keeps fewer")
                    .setting("form")
                    .hint("use `Form::Residual`, or decompose with `RankPolicy::Full`"),
            ));
        }
        if adapter.n_slots == 0 {
            return Err(Error::expected("1 or more", 0).setting("n_slots"));
        }
        let mut session = Self::new(adapted.model(), options)?;
        session
            .context
            .bind(&adapted.factors, adapter.form, adapter.op, adapter.n_slots as usize)
            .map_err(at_sidecar)?;
        session.adapter = Some(Adapter {
            adapted: Arc::clone(adapted),
            experts: ExpertSet::new(sidecar),
            form: adapter.form,
            mixtures: vec![Mixture::base(); adapter.n_slots as usize],
        });
        let base = ResolvedMixture::base();
        for slot in 0..adapter.n_slots {
            session.write_slot(slot, &base)?;
        }
        Ok(session)
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The experts loaded into this session.
    ///
    /// # Errors
    /// The session has no sidecar.
    pub fn experts(&self) -> Result<&ExpertSet> {
        self.adapter.as_ref().map(|adapter| &adapter.experts).ok_or_else(no_sidecar)
    }

    /// The experts, to load, replace or unload some. A slot keeps what was written to it.
    ///
    /// # Errors
    /// The session has no sidecar.
    pub fn experts_mut(&mut self) -> Result<&mut ExpertSet> {
        self.adapter.as_mut().map(|adapter| &mut adapter.experts).ok_or_else(no_sidecar)
    }

    /// Gives `slot` a mixture of this session's experts; as [`Self::write`].
    ///
    /// # Errors
    /// An unknown expert, or those of [`Self::write`].
    pub fn set_mixture(&mut self, slot: u32, mixture: &Mixture) -> Result<()> {
        self.check_slot(slot)?;
        let resolved = self.experts()?.resolve(mixture)?;
        self.write(slot, &resolved)
    }

    /// Gives `slot` a mixture.
    ///
    /// # Errors
    /// Slot 0, which stays the base model; a slot that a sequence uses which holds tokens, because their KV cache was
    /// computed with the old mixture; or a mixture that leaves the range of f32.
    pub fn write(&mut self, slot: u32, mixture: &ResolvedMixture) -> Result<()> {
        self.check_slot(slot)?;
        if slot == 0 {
            return Err(Error::invalid("slot 0 is the base model")
                .field("slot")
                .hint("use slot 1 or higher"));
        }
        if let Some(seq) = self.sequences.iter().position(|seq| seq.slot == slot && seq.n_past > 0) {
            return Err(stale(seq, self.sequences[seq].n_past, "another mixture"));
        }
        self.write_slot(slot, mixture)
    }

    /// The mixture in `slot`.
    ///
    /// # Errors
    /// No such slot, or no sidecar.
    pub fn mixture(&self, slot: u32) -> Result<&Mixture> {
        self.check_slot(slot)?;
        let adapter = self.adapter.as_ref().ok_or_else(no_sidecar)?;
        Ok(&adapter.mixtures[slot as usize])
    }

    /// Lets `seq` use `slot`. An error while the sequence holds tokens of another slot.
    ///
    /// # Errors
    /// That; or no such sequence or slot.
    pub fn assign(&mut self, seq: u32, slot: u32) -> Result<()> {
        self.check_slot(slot)?;
        let sequence = self.sequence(seq)?;
        if sequence.slot == slot {
            return Ok(());
        }
        if sequence.n_past > 0 {
            return Err(stale(seq as usize, sequence.n_past, "another mixture"));
        }
        self.context.assign(seq, slot as usize);
        self.sequences[seq as usize].slot = slot;
        Ok(())
    }

    /// Forgets the tokens of `seq`; its slot stays.
    ///
    /// # Errors
    /// There is no such sequence, or llama.cpp failed.
    pub fn clear(&mut self, seq: u32) -> Result<()> {
        self.sequence(seq)?;
        self.context.clear(seq)?;
        self.sequences[seq as usize].n_past = 0;
        Ok(())
    }

    /// Forgets the tokens of all sequences, and wipes their memory.
    pub fn reset(&mut self) {
        self.context.reset();
        self.sequences.iter_mut().for_each(|sequence| sequence.n_past = 0);
    }

    /// Forgets the tokens of `seq` from the `n`-th on; its slot stays. A model whose memory cannot be cut there (a
    /// recurrent one, or one whose sliding window has moved on) forgets all of them. Returns how many are left.
    ///
    /// # Errors
    /// There is no such sequence, or llama.cpp failed.
    pub fn truncate(&mut self, seq: u32, n: u32) -> Result<u32> {
        let n_past = self.sequence(seq)?.n_past;
        if n >= n_past {
            return Ok(n_past);
        }
        if n == 0 || !self.context.truncate(seq, n)? {
            self.clear(seq)?;
            return Ok(0);
        }
        self.sequences[seq as usize].n_past = n;
        Ok(n)
    }

    /// Lets `to` hold the tokens of `from` and use its slot, without computing them again.
    ///
    /// # Errors
    /// `to` holds tokens or is `from`.
    pub fn copy(&mut self, from: u32, to: u32) -> Result<()> {
        let original = self.sequence(from)?;
        let n_past = self.sequence(to)?.n_past;
        if from == to {
            return Err(Error::expected("another sequence than the copied one", to).field("sequence"));
        }
        if n_past > 0 {
            return Err(Error::invalid(format!("it holds {n_past} tokens"))
                .field(format!("sequence {to}"))
                .hint("clear the sequence first"));
        }
        self.assign(to, original.slot)?;
        self.context.copy(from, to)?;
        self.sequences[to as usize].n_past = original.n_past;
        Ok(())
    }

    /// The slot that `seq` uses.
    ///
    /// # Errors
    /// No such sequence.
    pub fn slot(&self, seq: u32) -> Result<u32> {
        Ok(self.sequence(seq)?.slot)
    }

    /// Tokens `seq` holds.
    ///
    /// # Errors
    /// No such sequence.
    pub fn n_past(&self, seq: u32) -> Result<u32> {
        Ok(self.sequence(seq)?.n_past)
    }

    /// Sequences.
    pub fn n_seq(&self) -> u32 {
        self.sequences.len() as u32
    }

    /// Tokens of KV cache over all sequences.
    pub fn n_ctx(&self) -> u32 {
        self.context.n_ctx()
    }

    /// Most tokens that one sequence can hold.
    pub fn n_ctx_seq(&self) -> u32 {
        self.context.n_ctx_seq()
    }

    /// Most tokens of one decode.
    pub fn n_batch(&self) -> u32 {
        self.context.n_batch()
    }

    /// Most tokens that llama.cpp computes at once.
    pub fn n_ubatch(&self) -> u32 {
        self.context.n_ubatch()
    }

    /// Slots, with that of the base model.
    pub fn n_slots(&self) -> u32 {
        self.adapter.as_ref().map_or(1, |adapter| adapter.mixtures.len() as u32)
    }

    /// About how many bytes of KV cache a sequence has of its own.
    pub(super) fn sequence_bytes(&self) -> usize {
        let llama = self.model.handle.llama();
        let heads = (llama.n_head() as usize).max(1);
        let width = llama.n_embd() as usize / heads * (llama.n_head_kv() as usize);
        let element = match self.kv {
            KvType::F16 => 2,
            KvType::F32 => 4,
        };
        // K and V.
        2 * element * llama.n_layer() as usize * width * self.n_ctx_seq() as usize
    }

    /// Where the adapted layers run, and how; nothing without a sidecar.
    pub fn placements(&self) -> Vec<Placement> {
        Placement::count(self.context.ways())
    }

    /// How many adapted layers run as the fused op.
    pub fn count_fused(&self) -> usize {
        self.placements().iter().map(|placement| placement.fused).sum()
    }

    /// Applies llama.cpp's own LoRA adapters with their scales to all sequences, replacing those before.
    ///
    /// # Errors
    /// A sequence holds tokens, whose KV cache was computed with the adapters before, or llama.cpp refuses one.
    ///
    /// # Panics
    /// An adapter was loaded for another model.
    pub fn set_loras(&mut self, loras: &[(Arc<Lora>, f32)]) -> Result<()> {
        if let Some(seq) = self.sequences.iter().position(|seq| seq.n_past > 0) {
            return Err(stale(seq, self.sequences[seq].n_past, "other LoRA adapters"));
        }
        self.context.set_loras(loras)
    }

    /// Appends each token to its sequence. [`Self::logits`] then gives the logits of the tokens with
    /// `output`.
    ///
    /// # Errors
    /// An empty batch or one of more than [`Self::n_batch`] tokens, a sequence or token that there is not, or what
    /// llama.cpp cannot decode. Sequences then hold what they held before, or nothing where their memory cannot be cut.
    pub fn decode(&mut self, batch: &[Input]) -> Result<()> {
        if batch.is_empty() || batch.len() > self.n_batch() as usize {
            return Err(
                Error::expected(format!("1 to {} tokens", self.n_batch()), batch.len()).field("batch")
            );
        }
        let n_vocab = self.model.n_vocab();
        let mut next: Vec<u32> = self.sequences.iter().map(|sequence| sequence.n_past).collect();
        let mut tokens = Vec::with_capacity(batch.len());
        for input in batch {
            self.sequence(input.seq)?;
            if input.token < 0 || input.token as usize >= n_vocab {
                return Err(Error::expected(format!("a token below {n_vocab}"), input.token).field("token"));
            }
            let position = &mut next[input.seq as usize];
            tokens.push(BatchToken {
                token: input.token,
                position: *position as i32,
                sequence: input.seq,
                output: input.output,
            });
            *position += 1;
        }
        #[cfg(test)]
        if let Some(refuses) = self.refuses.as_mut() {
            if refuses(batch) {
                return Err(Error::engine("a planted failure"));
            }
        }
        let result = self.context.decode(&tokens);
        if result.is_ok() {
            for (sequence, n_past) in self.sequences.iter_mut().zip(next) {
                sequence.n_past = n_past;
            }
        } else {
            for input in batch {
                self.forget_after(input.seq)?;
            }
        }
        result
    }

    /// Takes out of the memory of `seq` what a decode that failed has left there.
    fn forget_after(&mut self, seq: u32) -> Result<()> {
        let n_past = self.sequence(seq)?.n_past;
        match n_past > 0 && self.context.truncate(seq, n_past)? {
            true => Ok(()),
            false => self.clear(seq),
        }
    }

    /// Appends `tokens` to `seq` in as many decodes as needed; the last one's logits are output 0.
    ///
    /// # Errors
    /// Those of [`Self::decode`].
    pub fn prompt(&mut self, seq: u32, tokens: &[Token]) -> Result<()> {
        let n_batch = self.n_batch() as usize;
        let n_chunks = tokens.len().div_ceil(n_batch);
        for (i, chunk) in tokens.chunks(n_batch).enumerate() {
            let mut inputs: Vec<_> = chunk.iter().map(|&token| Input { seq, token, output: false }).collect();
            if let Some(last) = inputs.last_mut() {
                last.output = i + 1 == n_chunks;
            }
            self.decode(&inputs)?;
        }
        Ok(())
    }

    /// Logits `[n_vocab]` of output token `i` of the last decode, counted over tokens with `output`.
    ///
    /// # Panics
    /// The last decode had no more than `i` output tokens.
    pub fn logits(&self, i: usize) -> &[f32] {
        self.context.logits(i)
    }

    /// Lets `seq` sum up what block `layer` leaves for its tokens at positions `range`, from the next decode on; an empty
    /// range ends it.
    ///
    /// # Errors
    /// No such sequence, no sidecar, or a layer that is not before the model's last.
    pub fn pool(&mut self, seq: u32, layer: u32, range: Range<u32>) -> Result<()> {
        self.sequence(seq)?;
        self.check_pooled_layer(layer)?;
        self.context.pool(seq, layer, range);
        Ok(())
    }

    /// The mean `[n_embd]` of what `seq` has summed up of block `layer`, and of how many tokens it is.
    ///
    /// # Errors
    /// Those of [`Self::pool`].
    pub fn pooled(&self, seq: u32, layer: u32) -> Result<(Vec<f32>, u32)> {
        self.sequence(seq)?;
        self.check_pooled_layer(layer)?;
        Ok(self.context.pooled(seq, layer))
    }

    /// Blocks of which [`Self::pool`] can be asked; none without a sidecar, because our hook does it. The last one computes
    /// what outputs need, and no more.
    pub fn n_pooled_layers(&self) -> u32 {
        let n_layer = self.model.handle.llama().n_layer();
        self.adapter.as_ref().map_or(0, |_| n_layer.saturating_sub(1))
    }

    fn check_pooled_layer(&self, layer: u32) -> Result<()> {
        self.adapter.as_ref().ok_or_else(no_sidecar)?;
        let n = self.n_pooled_layers();
        match layer < n {
            true => Ok(()),
            false => Err(Error::expected(format!("a block below {n}"), layer).field("layer")),
        }
    }

    fn write_slot(&mut self, slot: u32, mixture: &ResolvedMixture) -> Result<()> {
        let adapter = self.adapter.as_mut().ok_or_else(no_sidecar)?;
        let sidecar = adapter.adapted.sidecar();
        // All rows first: a slot is written wholly or not at all.
        let rows = adapter
            .adapted
            .order
            .iter()
            .map(|&index| {
                let weight = &sidecar.weights[index];
                let mut row = mixture.multipliers(weight)?;
                for (m, sigma) in row.iter_mut().zip(&weight.sigma) {
                    *m = match adapter.form {
                        Form::Residual => sigma * (*m - 1.0),
                        Form::Factored => sigma * *m,
                    };
                    if !m.is_finite() {
                        return Err(Error::invalid("the mixture leaves the range of f32")
                            .field(&weight.name)
                            .hint("use smaller weights or a smaller `strength`"));
                    }
                }
                Ok(row)
            })
            .collect::<Result<Vec<_>>>()?;
        for (index, row) in rows.iter().enumerate() {
            self.context.write_slot(slot as usize, index, row);
        }
        adapter.mixtures[slot as usize] = mixture.mixture().clone();
        Ok(())
    }

    /// Whether `slot` exists; the base model's does without a sidecar too.
    pub(super) fn check_slot(&self, slot: u32) -> Result<()> {
        if slot == 0 {
            return Ok(());
        }
        let n_slots = self.adapter.as_ref().ok_or_else(no_sidecar)?.mixtures.len();
        if slot as usize >= n_slots {
            return Err(Error::expected(format!("a slot below {n_slots}"), slot).field("slot"));
        }
        Ok(())
    }

    fn sequence(&self, seq: u32) -> Result<Sequence> {
        self.sequences.get(seq as usize).copied().ok_or_else(|| {
            Error::expected(format!("a sequence below {}", self.sequences.len()), seq).field("sequence")
        })
    }
}

fn no_sidecar() -> Error {
    Error::invalid("this session runs the base model alone").hint("load a sidecar with `Sidecar::open`")
}

/// `with` is what the tokens of `seq` were computed with.
fn stale(seq: usize, n_past: u32, with: &str) -> Error {
    Error::invalid(format!("it holds {n_past} tokens computed with {with}"))
        .field(format!("sequence {seq}"))
        .hint("clear the sequence first")
}
