//! The store on the local disk.
