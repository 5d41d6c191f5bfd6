//! Sealift from outside: real files, real sockets.

mod receive;
