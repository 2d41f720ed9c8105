//! The client side of RFB.
