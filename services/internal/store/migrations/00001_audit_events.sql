-- +goose Up
-- One row an event. Rows are written once, by ingest, under an insert
-- deduplication token that names their Kafka range: see docs/architecture.md.
-- The key ends in the id as a number, because ClickHouse orders UUIDs by their
-- second half first, and ties are read in the order of the id's text.
CREATE TABLE IF NOT EXISTS audit_events
(
    id                   UUID CODEC(ZSTD(1)),
    audit_enabled_app_id UInt32 CODEC(T64, ZSTD(1)),
    application_name     LowCardinality(String) CODEC(ZSTD(1)),
    module_code          LowCardinality(String) CODEC(ZSTD(1)),
    module_name          LowCardinality(String) CODEC(ZSTD(1)),
    user_name            LowCardinality(String) CODEC(ZSTD(1)),
    user_role            LowCardinality(String) CODEC(ZSTD(1)),
    user_uuid            LowCardinality(String) CODEC(ZSTD(1)),
    customer_uuid        LowCardinality(String) CODEC(ZSTD(1)),
    client               LowCardinality(String) CODEC(ZSTD(1)),
    source_ip            IPv6 CODEC(ZSTD(1)),
    created_date         DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    target_type          LowCardinality(String) CODEC(ZSTD(1)),
    target_name          String CODEC(ZSTD(3)),
    action               LowCardinality(String) CODEC(ZSTD(1)),
    status               LowCardinality(String) CODEC(ZSTD(1)),
    audit_comment        String CODEC(ZSTD(3)),
    external_change_link String CODEC(ZSTD(1)),
    endpoint_type        LowCardinality(String) CODEC(ZSTD(1)),
    business_unit        LowCardinality(String) CODEC(ZSTD(1)),
    origin               LowCardinality(String) CODEC(ZSTD(1)),
    changes              String CODEC(ZSTD(1)),
    request_id           String CODEC(ZSTD(1)),
    extra                String CODEC(ZSTD(1)),

    topic_id             UUID CODEC(ZSTD(1)),
    kafka_partition      UInt32 CODEC(ZSTD(1)),
    kafka_offset         Int64 CODEC(T64, ZSTD(1)),
    appended_at          DateTime64(3, 'UTC') CODEC(T64, ZSTD(1)),
    ingested_at          DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(ZSTD(3)),
    retention_days       UInt16 DEFAULT 400 CODEC(ZSTD(1)),

    INDEX by_offset kafka_offset TYPE minmax GRANULARITY 1,
    INDEX by_ingested_at ingested_at TYPE minmax GRANULARITY 1,
    INDEX by_id id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_user user_uuid TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_name replaceAll(lowerUTF8(toValidUTF8(user_name)), 'ς', 'σ') TYPE text(tokenizer = 'splitByNonAlpha', posting_list_codec = 'bitpacking'),
    INDEX by_target replaceAll(lowerUTF8(toValidUTF8(target_name)), 'ς', 'σ') TYPE text(tokenizer = 'splitByNonAlpha', posting_list_codec = 'bitpacking'),
    INDEX by_comment replaceAll(lowerUTF8(toValidUTF8(audit_comment)), 'ς', 'σ') TYPE text(tokenizer = 'splitByNonAlpha', posting_list_codec = 'bitpacking'),
    INDEX by_link extractAll(replaceAll(lowerUTF8(toValidUTF8(external_change_link)), 'ς', 'σ'), '([0-9a-z\\x{80}-\\x{10ffff}]{1,3})[0-9a-z\\x{80}-\\x{10ffff}]*') TYPE text(tokenizer = 'array', posting_list_codec = 'bitpacking')
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(created_date)
ORDER BY (customer_uuid, created_date, toUInt128(id))
TTL toDateTime(created_date) + toIntervalDay(retention_days)
SETTINGS non_replicated_deduplication_window = 100000, ttl_only_drop_parts = 0,
    index_granularity = 1024, min_compress_block_size = 16384;
