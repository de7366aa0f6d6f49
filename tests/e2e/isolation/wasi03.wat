;; WASI 0.3: receives a request and sends an answer.
(import "wasi:http/types@0.3.0" "[method]request.get-path-with-query" (func $path (param i32 i32)))
(import "wasi:http/types@0.3.0" "[constructor]fields" (func $fields (result i32)))
(import "wasi:http/types@0.3.0" "[static]response.new" (func $response (param i32 i32 i32 i32 i32)))
(import "wasi:http/types@0.3.0" "[method]response.set-status-code" (func $set_status (param i32 i32) (result i32)))
(import "wasi:http/types@0.3.0" "[future-new-1][static]response.new" (func $future (result i64)))
(import "wasi:http/types@0.3.0" "[async-lower][future-write-1][static]response.new"
    (func $resolve (param i32 i32) (result i32)))
(import "wasi:clocks/monotonic-clock@0.3.0" "wait-for" (func $wait (param i64)))

;; No trailers: the memory at 96 stays zero. The result at 128 is the response.
(func (export "wasi:http/handler@0.3.0#handle") (param $request i32) (result i32)
    (local $trailers i64)
    (call $path (local.get $request) (i32.const 16))
    (local.set $trailers (call $future))
    (call $response (call $fields) (i32.const 0) (i32.const 0) (i32.wrap_i64 (local.get $trailers)) (i32.const 64))
    (drop (call $resolve (i32.wrap_i64 (i64.shr_u (local.get $trailers) (i64.const 32))) (i32.const 96)))
    (drop (call $set_status (i32.load (i32.const 64)) (call $serve)))
    (i32.store (i32.const 136) (i32.load (i32.const 64)))
    (i32.const 128))
