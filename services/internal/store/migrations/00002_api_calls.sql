-- +goose Up
-- One row a change of state of an API call, written by ingest as rows of
-- audit_events are. What identifies a row is id, made of call_id and state. The
-- key serves the calls whose state changed in a range of time.
CREATE TABLE IF NOT EXISTS api_call_events
(
    id               UUID CODEC(ZSTD(1)),
    call_id          UUID CODEC(ZSTD(1)),
    customer_uuid    LowCardinality(String) CODEC(ZSTD(1)),
    module_code      LowCardinality(String) CODEC(ZSTD(1)),
    api              LowCardinality(String) CODEC(ZSTD(1)),
    method           LowCardinality(String) CODEC(ZSTD(1)),
    state            LowCardinality(String) CODEC(ZSTD(1)),
    state_rank       UInt8 CODEC(ZSTD(1)),
    reason           LowCardinality(String) CODEC(ZSTD(1)),
    submitted_date   DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    updated_date     DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    duration_ms      UInt32 CODEC(T64, ZSTD(1)),
    http_status      UInt32 CODEC(T64, ZSTD(1)),
    user_name        LowCardinality(String) CODEC(ZSTD(1)),
    user_role        LowCardinality(String) CODEC(ZSTD(1)),
    user_uuid        LowCardinality(String) CODEC(ZSTD(1)),
    business_unit    LowCardinality(String) CODEC(ZSTD(1)),
    client           LowCardinality(String) CODEC(ZSTD(1)),
    source_ip        IPv6 CODEC(ZSTD(1)),
    request_id       String CODEC(ZSTD(1)),

    topic_id         UUID CODEC(ZSTD(1)),
    kafka_partition  UInt32 CODEC(ZSTD(1)),
    kafka_offset     Int64 CODEC(T64, ZSTD(1)),
    appended_at      DateTime64(3, 'UTC') CODEC(T64, ZSTD(1)),
    ingested_at      DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(ZSTD(3)),
    retention_days   UInt16 DEFAULT 400 CODEC(ZSTD(1)),

    INDEX by_offset kafka_offset TYPE minmax GRANULARITY 1,
    INDEX by_ingested_at ingested_at TYPE minmax GRANULARITY 1,
    INDEX by_id id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_call call_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(updated_date)
ORDER BY (customer_uuid, updated_date, toUInt128(id))
TTL toDateTime(updated_date) + toIntervalDay(retention_days)
SETTINGS non_replicated_deduplication_window = 100000, ttl_only_drop_parts = 0, index_granularity = 1024;

-- The latest state of each call: merges keep the row with the highest version,
-- and reads take FINAL. A row may come twice, and in any order.
CREATE TABLE IF NOT EXISTS api_calls
(
    call_id          UUID CODEC(ZSTD(1)),
    customer_uuid    LowCardinality(String) CODEC(ZSTD(1)),
    module_code      LowCardinality(String) CODEC(ZSTD(1)),
    api              LowCardinality(String) CODEC(ZSTD(1)),
    method           LowCardinality(String) CODEC(ZSTD(1)),
    state            LowCardinality(String) CODEC(ZSTD(1)),
    reason           LowCardinality(String) CODEC(ZSTD(1)),
    submitted_date   DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    updated_date     DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    duration_ms      UInt32 CODEC(T64, ZSTD(1)),
    http_status      UInt32 CODEC(T64, ZSTD(1)),
    user_name        LowCardinality(String) CODEC(ZSTD(1)),
    user_role        LowCardinality(String) CODEC(ZSTD(1)),
    user_uuid        LowCardinality(String) CODEC(ZSTD(1)),
    business_unit    LowCardinality(String) CODEC(ZSTD(1)),
    client           LowCardinality(String) CODEC(ZSTD(1)),
    source_ip        IPv6 CODEC(ZSTD(1)),
    request_id       String CODEC(ZSTD(1)),
    retention_days   UInt16 DEFAULT 400 CODEC(ZSTD(1)),
    version          UInt64 CODEC(ZSTD(1)),
    ingested_at      DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(ZSTD(3)),

    INDEX by_ingested_at ingested_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(submitted_date)
ORDER BY (customer_uuid, submitted_date, toUInt128(call_id))
TTL toDateTime(updated_date) + toIntervalDay(retention_days)
SETTINGS ttl_only_drop_parts = 0, index_granularity = 1024;

-- It names the columns of api_calls in their order, but for ingested_at: ingest
-- repeats its SELECT for rows of inserts that were in doubt.
CREATE MATERIALIZED VIEW IF NOT EXISTS api_calls_latest TO api_calls AS
SELECT call_id, customer_uuid, module_code, api, method, state, reason, submitted_date, updated_date, duration_ms, http_status,
    user_name, user_role, user_uuid, business_unit, client, source_ip, request_id, retention_days,
    -- The state's rank, then the time.
    bitOr(bitShiftLeft(toUInt64(state_rank), 56), toUInt64(greatest(toUnixTimestamp64Milli(updated_date), 0))) AS version
FROM api_call_events;
