//! Evidence of one image → its score vector.
