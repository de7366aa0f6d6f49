;; WASI 0.2: receives a request and sends an answer.
(import "wasi:http/types@0.2.10" "[method]incoming-request.path-with-query" (func $path (param i32 i32)))
(import "wasi:http/types@0.2.10" "[constructor]fields" (func $fields (result i32)))
(import "wasi:http/types@0.2.10" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
(import "wasi:http/types@0.2.10" "[method]outgoing-response.set-status-code" (func $set_status (param i32 i32) (result i32)))
(import "wasi:http/types@0.2.10" "[static]response-outparam.set"
    (func $answer (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
(import "wasi:clocks/monotonic-clock@0.2.10" "subscribe-duration" (func $timer (param i64) (result i32)))
(import "wasi:io/poll@0.2.10" "[method]pollable.block" (func $block (param i32)))

(func (export "wasi:http/incoming-handler@0.2.10#handle") (param $request i32) (param $out i32)
    (local $response i32)
    (call $path (local.get $request) (i32.const 16))
    (local.set $response (call $response (call $fields)))
    (drop (call $set_status (local.get $response) (call $serve)))
    (call $answer (local.get $out) (i32.const 0) (local.get $response)
        (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))

(func $wait (param $nanoseconds i64)
    (call $block (call $timer (local.get $nanoseconds))))
