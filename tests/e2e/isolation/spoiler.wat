;; The part that both worlds share. A request first looks for traces of an earlier instance. A number at the end of its path then spoils all
;; state of this instance and waits this many milliseconds. The status of the answer is 200 plus ten times the sum of these numbers: a
;; spoiled memory counts 1, a spoiled table 2, a spoiled global 4. The part of the world defines $path and $wait.

;; Six MiB, to which the first request adds two. The first page is used for calls: 16 path, 64 to 160 results, 4096 texts.
(memory (export "memory") 96)
(data (i32.const 0x10010) "initial contents")
(data (i32.const 0x28010) "initial contents")
(data (i32.const 0x52010) "initial contents")
(table $functions 16000 funcref)
(elem (table $functions) (i32.const 100) func $clean $clean $clean $clean $clean $clean $clean $clean)
(elem declare func $spoiled)
(type $mark (func (result i32)))
(global $number (mut i64) (i64.const 0))
(global $reference (mut funcref) (ref.null func))
(global $next (mut i32) (i32.const 4096))

(func $clean (type $mark) (i32.const 0))
(func $spoiled (type $mark) (i32.const 1))

(func (export "cabi_realloc") (param i32 i32 i32) (param $length i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next
        (i32.and (i32.add (i32.add (local.get $at) (local.get $length)) (i32.const 7)) (i32.const -8)))
    (local.get $at))

(func $serve (result i32)
    (local $status i32)
    (local $milliseconds i32)
    (if (i32.eq (memory.size) (i32.const 96)) (then (drop (memory.grow (i32.const 32)))))
    (local.set $status
        (i32.add (i32.const 200) (i32.mul (i32.const 10)
            (i32.or (i32.or (call $memory_found) (call $table_found)) (call $globals_found)))))
    (local.set $milliseconds (call $number_at_the_end))
    (if (local.get $milliseconds) (then
        (call $spoil)
        (call $wait (i64.mul (i64.extend_i32_u (local.get $milliseconds)) (i64.const 1000000)))))
    (local.get $status))

(func $number_at_the_end (result i32)
    (local $at i32) (local $factor i32) (local $digit i32) (local $number i32)
    (local.set $at (i32.add (i32.load (i32.const 20)) (i32.load (i32.const 24))))
    (local.set $factor (i32.const 1))
    (block $done (loop $next_digit
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (local.set $digit (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
        (br_if $done (i32.gt_u (local.get $digit) (i32.const 9)))
        (local.set $number (i32.add (local.get $number) (i32.mul (local.get $digit) (local.get $factor))))
        (local.set $factor (i32.mul (local.get $factor) (i32.const 10)))
        (br $next_digit)))
    (local.get $number))

;; Writes to every other page of the memory after the first 64 KiB, every third entry of the table, and both globals.
(func $spoil
    (local $at i32)
    (local.set $at (i32.const 0x10000))
    (loop $next_page
        (memory.fill (local.get $at) (i32.const 0x56) (i32.const 4096))
        (local.set $at (i32.add (local.get $at) (i32.const 8192)))
        (br_if $next_page (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
    (local.set $at (i32.const 0))
    (loop $next_entry
        (table.set $functions (local.get $at) (ref.func $spoiled))
        (local.set $at (i32.add (local.get $at) (i32.const 3)))
        (br_if $next_entry (i32.lt_u (local.get $at) (table.size $functions))))
    (global.set $number (i64.const 0x5656565656565656))
    (global.set $reference (ref.func $spoiled)))

(func $memory_found (result i32)
    (local $at i32)
    (local.set $at (i32.const 0x10000))
    (loop $next_word
        (if (i64.eq (i64.load (local.get $at)) (i64.const 0x5656565656565656)) (then (return (i32.const 1))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $next_word (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
    (i32.const 0))

(func $table_found (result i32)
    (local $at i32)
    (loop $next_entry
        (if (i32.eqz (ref.is_null (table.get $functions (local.get $at)))) (then
            (if (call_indirect $functions (type $mark) (local.get $at)) (then (return (i32.const 2))))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $next_entry (i32.lt_u (local.get $at) (table.size $functions))))
    (i32.const 0))

(func $globals_found (result i32)
    (if (i64.ne (global.get $number) (i64.const 0)) (then (return (i32.const 4))))
    (i32.shl (i32.eqz (ref.is_null (global.get $reference))) (i32.const 2)))
