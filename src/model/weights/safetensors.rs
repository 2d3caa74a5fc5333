//! One safetensors file, memory-mapped: its header is checked whole before any tensor is read, and
//! each tensor is copied out once, when it is wanted.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use burn::store::bridge;
use burn::store::burn_pack::Tensor as PackTensor;
use burn::tensor::{DType, Shape, TensorData};
use memmap2::Mmap;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{TENSOR_COUNT_LIMIT, WeightsError, finite, recognise};
use crate::files::{map_readonly, release_pages};

/// Bytes of the number that a file starts with: the length of the header.
const LENGTH: usize = size_of::<u64>();
/// The bound of the format's own library.
pub const HEADER_LIMIT: u64 = 100_000_000;
/// The entry of a header that is no tensor.
const METADATA: &str = "__metadata__";

/// Opens a file; its tensors are read when they are wanted.
///
/// # Errors
/// When it is missing, truncated, malformed, or holds a dtype that is no plain number.
pub fn open(path: &Path) -> Result<Vec<PackTensor>, WeightsError> {
    recognise::refuse_foreign_file(path)?;
    let format = |reason: String| WeightsError::Format { path: path.to_owned(), reason };
    let map = Arc::new(map_readonly(path, "a safetensors file")?);
    check_layout(&map).map_err(format)?;
    let (header, metadata) =
        safetensors::SafeTensors::read_metadata(&map).map_err(|e| format(e.to_string()))?;
    let start = header + LENGTH;
    let mut tensors = Vec::new();
    for (name, info) in metadata.tensors() {
        let dtype = dtype_of(info.dtype).ok_or_else(|| {
            format(format!(
                "tensor {name} has dtype {:?}, of which Haze knows no arithmetic (take the \
                 float16, bfloat16 or float32 weights of the model)",
                info.dtype
            ))
        })?;
        let shape = Shape::from(info.shape.clone());
        let bytes = start + info.data_offsets.0..start + info.data_offsets.1;
        tensors.push(lazy(name, dtype, shape, Arc::clone(&map), bytes));
    }
    Ok(tensors)
}

fn lazy(
    name: String,
    dtype: DType,
    shape: Shape,
    map: Arc<Mmap>,
    bytes: Range<usize>,
) -> PackTensor {
    let (label, inner) = (name.clone(), shape.clone());
    bridge::deferred(name, dtype, shape, None, move || {
        let copy = map[bytes.clone()].to_vec();
        // Nobody reads the mapped bytes again, and they would count as memory in use.
        release_pages(&map, bytes.clone());
        let data = TensorData::from_bytes_vec(copy, inner.clone(), dtype);
        finite::check(&label, &data)?;
        Ok(data)
    })
}

fn dtype_of(dtype: safetensors::Dtype) -> Option<DType> {
    use safetensors::Dtype;
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U8 => DType::U8,
        _ => return None,
    })
}

/// Checks header and offsets, and says what is wrong in more words than the format's library,
/// which also takes a name that occurs twice.
fn check_layout(file: &[u8]) -> Result<(), String> {
    let size = file.len();
    let Some((length, rest)) = file.split_first_chunk::<LENGTH>() else {
        return Err(format!("it has {size} bytes, too few for a header: it is incomplete"));
    };
    let length = u64::from_le_bytes(*length);
    if length > HEADER_LIMIT {
        return Err(format!(
            "its header claims {length} bytes, at most {HEADER_LIMIT} are allowed: this is no \
             safetensors file"
        ));
    }
    let header = rest.get(..length as usize).ok_or_else(|| {
        format!("its header claims {length} bytes, but the file has {size}: it is incomplete")
    })?;
    let data = (rest.len() - header.len()) as u64;
    let Header(mut places) =
        serde_json::from_slice(header).map_err(|error| format!("its header: {error}"))?;
    places.sort_by_key(|(_, place)| place.data_offsets);
    let mut covered = 0;
    let mut before = "the header";
    for (name, Place { data_offsets: [from, to] }) in &places {
        if to < from || *to > data {
            return Err(format!(
                "tensor {name} lies at bytes {from} to {to} of {data}: the file is incomplete or \
                 its offsets are wrong"
            ));
        }
        if *from < covered {
            return Err(format!("the tensors {before} and {name} overlap at byte {from}"));
        }
        if *from > covered {
            return Err(format!("bytes {covered} to {from}, before tensor {name}, belong to none"));
        }
        (covered, before) = (*to, name);
    }
    if covered < data {
        return Err(format!("{} bytes follow the last tensor", data - covered));
    }
    Ok(())
}

/// Where a tensor lies, in bytes after the header.
#[derive(serde::Deserialize)]
struct Place {
    data_offsets: [u64; 2],
}

/// Names and places of all tensors.
struct Header(Vec<(String, Place)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one entry per tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        use serde::de::Error;
        let mut names = HashSet::new();
        let mut places = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("it names {name} twice")));
            }
            if name == METADATA {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if places.len() == TENSOR_COUNT_LIMIT {
                return Err(A::Error::custom(format!(
                    "it names more than {TENSOR_COUNT_LIMIT} tensors"
                )));
            }
            places.push((name, map.next_value()?));
        }
        Ok(Header(places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with this header and `data` bytes behind it.
    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn entry(name: &str, from: usize, to: usize) -> String {
        let length = (to.saturating_sub(from)) / 4;
        format!(r#""{name}":{{"dtype":"F32","shape":[{length}],"data_offsets":[{from},{to}]}}"#)
    }

    fn message(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, bytes).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
        error
    }

    #[test]
    fn offsets_that_overlap_leave_gaps_or_leave_the_file_are_refused() {
        let of =
            |entries: &[String], data| message(&file(&format!("{{{}}}", entries.join(",")), data));
        let text = of(&[entry("a", 0, 8), entry("b", 4, 12)], 12);
        assert!(text.contains("a and b overlap at byte 4"), "{text}");
        let text = of(&[entry("a", 0, 8), entry("b", 0, 8)], 8);
        assert!(text.contains("overlap at byte 0"), "{text}");
        let text = of(&[entry("a", 0, 8), entry("b", 12, 16)], 16);
        assert!(text.contains("bytes 8 to 12, before tensor b"), "{text}");
        let text = of(&[entry("a", 0, 800)], 8);
        assert!(text.contains("bytes 0 to 800 of 8") && text.contains("incomplete"), "{text}");
        let text = of(&[entry("a", 8, 4)], 8);
        assert!(text.contains("bytes 8 to 4"), "{text}");
        let text = of(&[entry("a", 0, 4)], 8);
        assert!(text.contains("4 bytes follow"), "{text}");
        let wrong = entry("a", 0, 8).replace("[2]", "[18446744073709551615,9]");
        let text = of(&[wrong], 8);
        assert!(text.contains("overflow"), "{text}");
        let wrong = entry("a", 0, 8).replace("[2]", "[3]");
        let text = of(&[wrong], 8);
        assert!(text.contains("invalid shape"), "{text}");
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused_even_where_both_mean_the_same_bytes() {
        let twice = format!("{{{0},{0}}}", entry("a", 0, 8));
        let text = message(&file(&twice, 8));
        assert!(text.contains("names a twice"), "{text}");
    }

    #[test]
    fn headers_that_are_huge_cut_or_no_json_are_refused() {
        let text = message(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat());
        assert!(text.contains("claims 18446744073709551615 bytes"), "{text}");
        let text = message(&[&1000u64.to_le_bytes()[..], b"{}"].concat());
        assert!(text.contains("claims 1000 bytes, but the file has 10"), "{text}");
        let text = message(&[1, 2, 3]);
        assert!(text.contains("3 bytes") && text.contains("incomplete"), "{text}");
        let text = message(&file("[1, 2]", 0));
        assert!(text.contains("one entry per tensor"), "{text}");
        let many: Vec<String> =
            (0..=TENSOR_COUNT_LIMIT).map(|i| entry(&i.to_string(), 0, 0)).collect();
        let text = message(&file(&format!("{{{}}}", many.join(",")), 0));
        assert!(text.contains("more than 100000 tensors"), "{text}");
    }

    #[test]
    fn formats_without_arithmetic_are_named() {
        let eight = r#"{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}"#;
        let text = message(&file(eight, 8));
        assert!(text.contains("F8_E4M3") && text.contains("float16"), "{text}");
    }

    #[test]
    fn metadata_is_no_tensor() {
        let header = format!(r#"{{"__metadata__":{{"format":"pt"}},{}}}"#, entry("a", 0, 8));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, file(&header, 8)).unwrap();
        let tensors = open(&path).unwrap();
        assert_eq!(tensors.len(), 1);
        assert_eq!(bridge::to_data(&tensors[0]).unwrap().iter::<f32>().sum::<f32>(), 0.0);
    }
}
