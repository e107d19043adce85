pub mod checksums;
