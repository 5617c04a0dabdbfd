//! The cxx bridge.
