;; The sums of V and M, four numbers at a time: out += the sum of value[k] * row index[k] of a matrix.
;; wat2wasm kernel.wat -o kernel.wasm && base64 -w 0 kernel.wasm    is the text in kernel.js
(module
  (memory (import "page" "memory") 1)
  (func (export "addRows")
    (param $out i32)     ;; address of the sums
    (param $bytes i32)   ;; length of a row, a multiple of 16
    (param $found i32)   ;; how many rows
    (param $index i32)   ;; address of their numbers in the matrix, i32
    (param $value i32)   ;; address of their factors, f32
    (param $matrix i32)  ;; address of the matrix
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local $p i32) (local $q i32) (local $r i32) (local $s i32) (local $end i32) (local $o i32)
    (local.set $end (i32.add (local.get $out) (local.get $bytes)))
    (block $few
      (loop $four ;; rows a pass, so that a sum is loaded and stored a quarter as often
        (br_if $few (i32.lt_s (local.get $found) (i32.const 4)))
        (local.set $a (v128.load32_splat (local.get $value)))
        (local.set $b (v128.load32_splat offset=4 (local.get $value)))
        (local.set $c (v128.load32_splat offset=8 (local.get $value)))
        (local.set $d (v128.load32_splat offset=12 (local.get $value)))
        (local.set $p (i32.add (local.get $matrix) (i32.mul (i32.load (local.get $index)) (local.get $bytes))))
        (local.set $q (i32.add (local.get $matrix) (i32.mul (i32.load offset=4 (local.get $index)) (local.get $bytes))))
        (local.set $r (i32.add (local.get $matrix) (i32.mul (i32.load offset=8 (local.get $index)) (local.get $bytes))))
        (local.set $s (i32.add (local.get $matrix) (i32.mul (i32.load offset=12 (local.get $index)) (local.get $bytes))))
        (local.set $o (local.get $out))
        (loop $row
          (v128.store (local.get $o)
            (f32x4.add
              (f32x4.add
                (v128.load (local.get $o))
                (f32x4.add
                  (f32x4.mul (local.get $a) (v128.load (local.get $p)))
                  (f32x4.mul (local.get $b) (v128.load (local.get $q)))))
              (f32x4.add
                (f32x4.mul (local.get $c) (v128.load (local.get $r)))
                (f32x4.mul (local.get $d) (v128.load (local.get $s))))))
          (local.set $p (i32.add (local.get $p) (i32.const 16)))
          (local.set $q (i32.add (local.get $q) (i32.const 16)))
          (local.set $r (i32.add (local.get $r) (i32.const 16)))
          (local.set $s (i32.add (local.get $s) (i32.const 16)))
          (br_if $row (i32.lt_u (local.tee $o (i32.add (local.get $o) (i32.const 16))) (local.get $end))))
        (local.set $index (i32.add (local.get $index) (i32.const 16)))
        (local.set $value (i32.add (local.get $value) (i32.const 16)))
        (local.set $found (i32.sub (local.get $found) (i32.const 4)))
        (br $four)))
    (block $none
      (loop $one
        (br_if $none (i32.eqz (local.get $found)))
        (local.set $a (v128.load32_splat (local.get $value)))
        (local.set $p (i32.add (local.get $matrix) (i32.mul (i32.load (local.get $index)) (local.get $bytes))))
        (local.set $o (local.get $out))
        (loop $row
          (v128.store (local.get $o)
            (f32x4.add (v128.load (local.get $o)) (f32x4.mul (local.get $a) (v128.load (local.get $p)))))
          (local.set $p (i32.add (local.get $p) (i32.const 16)))
          (br_if $row (i32.lt_u (local.tee $o (i32.add (local.get $o) (i32.const 16))) (local.get $end))))
        (local.set $index (i32.add (local.get $index) (i32.const 4)))
        (local.set $value (i32.add (local.get $value) (i32.const 4)))
        (local.set $found (i32.sub (local.get $found) (i32.const 1)))
        (br $one)))))
