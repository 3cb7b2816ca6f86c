//! GGUF files taken apart and put together again with something odd in them: by the format's description, independent of
//! ggml's writer, which would refuse most of it.

/// Numbers of the format's value types.
pub const U8: u32 = 0;
pub const I8: u32 = 1;
pub const U16: u32 = 2;
pub const I16: u32 = 3;
pub const U32: u32 = 4;
pub const I32: u32 = 5;
pub const F32: u32 = 6;
pub const BOOL: u32 = 7;
pub const STR: u32 = 8;
pub const ARRAY: u32 = 9;
pub const U64: u32 = 10;
pub const I64: u32 = 11;
pub const F64: u32 = 12;

/// A value: the number of its type, and its bytes.
#[derive(Clone, PartialEq, Debug)]
pub struct Value {
    pub ty: u32,
    pub bytes: Vec<u8>,
}

impl Value {
    pub fn new(ty: u32, bytes: impl AsRef<[u8]>) -> Self {
        Self { ty, bytes: bytes.as_ref().to_vec() }
    }

    pub fn u32(n: u32) -> Self {
        Self::new(U32, n.to_le_bytes())
    }

    pub fn i32(n: i32) -> Self {
        Self::new(I32, n.to_le_bytes())
    }

    pub fn f32(x: f32) -> Self {
        Self::new(F32, x.to_le_bytes())
    }

    pub fn bool(yes: bool) -> Self {
        Self::new(BOOL, [u8::from(yes)])
    }

    pub fn str(text: impl AsRef<[u8]>) -> Self {
        Self::new(STR, sized(text.as_ref()))
    }

    /// An array of elements that each have their bytes.
    pub fn array<T: AsRef<[u8]>>(ty: u32, elements: impl IntoIterator<Item = T>) -> Self {
        let elements: Vec<_> = elements.into_iter().collect();
        let mut bytes = ty.to_le_bytes().to_vec();
        bytes.extend((elements.len() as u64).to_le_bytes());
        elements.iter().for_each(|element| bytes.extend(element.as_ref()));
        Self { ty: ARRAY, bytes }
    }

    pub fn strs<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::array(STR, texts.into_iter().map(|text| sized(text.as_ref())))
    }

    /// The texts of an array of them.
    pub fn texts(&self) -> Vec<Vec<u8>> {
        assert_eq!((self.ty, &self.bytes[..4]), (ARRAY, &STR.to_le_bytes()[..]));
        let mut reader = Reader { bytes: &self.bytes, at: 4 };
        (0..reader.u64()).map(|_| reader.text()).collect()
    }
}

/// A text as the format has it: its length, then its bytes.
fn sized(text: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}

/// One entry of the tensor table.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: Vec<u8>,
    pub ne: Vec<u64>,
    pub ty: u32,
    pub offset: u64,
}

/// A file: what it says of itself, its table, and all data as they are.
#[derive(Clone, Debug)]
pub struct Gguf {
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
    pub data: Vec<u8>,
}

impl Gguf {
    pub fn parse(bytes: &[u8]) -> Self {
        assert!(bytes.starts_with(b"GGUF\x03\0\0\0"));
        let mut reader = Reader { bytes, at: 8 };
        let (n_tensors, n_keys) = (reader.u64(), reader.u64());
        let entry = |reader: &mut Reader| {
            let key = String::from_utf8(reader.text()).unwrap();
            let ty = reader.u32();
            let begin = reader.at;
            reader.skip(ty);
            (key, Value::new(ty, &bytes[begin..reader.at]))
        };
        let metadata = (0..n_keys).map(|_| entry(&mut reader)).collect();
        let tensor = |reader: &mut Reader| {
            let name = reader.text();
            let n_dims = reader.u32();
            let ne = (0..n_dims).map(|_| reader.u64()).collect();
            Tensor { name, ne, ty: reader.u32(), offset: reader.u64() }
        };
        let tensors = (0..n_tensors).map(|_| tensor(&mut reader)).collect();
        Self { metadata, tensors, data: bytes[reader.at.next_multiple_of(32)..].to_vec() }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }

    /// All before the data, without the padding between.
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            bytes.extend(sized(key.as_bytes()));
            bytes.extend(value.ty.to_le_bytes());
            bytes.extend(&value.bytes);
        }
        for tensor in &self.tensors {
            bytes.extend(sized(&tensor.name));
            bytes.extend((tensor.ne.len() as u32).to_le_bytes());
            tensor.ne.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
            bytes.extend(tensor.ty.to_le_bytes());
            bytes.extend(tensor.offset.to_le_bytes());
        }
        bytes
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.iter().find(|(found, _)| found == key).map(|(_, value)| value)
    }

    /// The file with `key` set to `value`.
    #[must_use]
    pub fn with(&self, key: &str, value: Value) -> Self {
        let mut file = self.clone();
        match file.metadata.iter_mut().find(|(found, _)| found == key) {
            Some((_, old)) => *old = value,
            None => file.metadata.push((key.into(), value)),
        }
        file
    }

    #[must_use]
    pub fn without(&self, key: &str) -> Self {
        let mut file = self.clone();
        file.metadata.retain(|(found, _)| found != key);
        file
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        self.at += N;
        self.bytes[self.at - N..self.at].try_into().unwrap()
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn text(&mut self) -> Vec<u8> {
        let length = self.u64() as usize;
        self.at += length;
        self.bytes[self.at - length..self.at].to_vec()
    }

    fn skip(&mut self, ty: u32) {
        match ty {
            STR => drop(self.text()),
            ARRAY => {
                let (ty, n) = (self.u32(), self.u64());
                (0..n).for_each(|_| self.skip(ty));
            }
            U8 | I8 | BOOL => self.at += 1,
            U16 | I16 => self.at += 2,
            U32 | I32 | F32 => self.at += 4,
            U64 | I64 | F64 => self.at += 8,
            _ => panic!("value type {ty}"),
        }
    }
}
