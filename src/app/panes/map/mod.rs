//! placeholder, see below
