;; A handler that was built when `session` and `cookies` had types of their own for the same attributes.
(component
    (import "cloakroom:http/session@0.1.0" (instance
        (type $error-shape (variant
            (case "denied" string) (case "invalid" string) (case "too-large" u64) (case "committed") (case "unavailable" string)))
        (export "error" (type $error (eq $error-shape)))
        (type $attributes-shape (record
            (field "original-max-age" (option s64)) (field "expires" (option s64)) (field "path" string)
            (field "domain" (option string)) (field "http-only" bool) (field "secure" bool)
            (field "same-site" (option string)) (field "partitioned" bool) (field "priority" (option string))))
        (export "cookie-attributes" (type $attributes (eq $attributes-shape)))
        (export "get" (func (param "key" string) (result (result (option string) (error $error)))))
        (export "cookie" (func (result (result $attributes (error $error)))))
        (export "set-max-age" (func (param "milliseconds" (option s64)) (result (result (error $error)))))))
    (import "cloakroom:http/cookies@0.1.0" (instance
        (type $error-shape (variant (case "denied" string) (case "invalid" string)))
        (export "error" (type $error (eq $error-shape)))
        (type $value-shape (variant (case "text" string) (case "json" string)))
        (export "value" (type $value (eq $value-shape)))
        (type $same-site-shape (enum "strict" "lax" "none"))
        (export "same-site" (type $same-site (eq $same-site-shape)))
        (type $priority-shape (enum "low" "medium" "high"))
        (export "priority" (type $priority (eq $priority-shape)))
        (type $attributes-shape (record
            (field "max-age" (option s64)) (field "expires" (option s64)) (field "domain" (option string))
            (field "path" (option string)) (field "http-only" bool) (field "secure" bool) (field "partitioned" bool)
            (field "priority" (option $priority)) (field "same-site" (option $same-site))))
        (export "attributes" (type $attributes (eq $attributes-shape)))
        (export "serialize" (func
            (param "name" string) (param "value" $value) (param "signed" bool) (param "attributes" $attributes)
            (result (result string (error $error)))))))
    (instance $none)
    (export "wasi:http/incoming-handler@0.2.10" (instance $none)))
