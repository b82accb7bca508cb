-- The statements of history.py, by name. {names} are SQL that Python inserts, and :names are
-- parameters. Comments at the start of a line are not sent to the database.


-- What records the changes


-- record_changes --
-- Record how the rows {old} became the rows {new}. The expressions are in the order of the
-- columns of the history. A command with a reason is on record though the row stays as it is.
INSERT INTO {history} (
{columns}
)
SELECT
    {revision}, {number} + row_number() OVER (ORDER BY stream_key), {transaction}, {changed_at},
    session_user, current_setting('application_name'),
    CAST(nullif(current_setting('{setting}', true), '') AS json) ->> 'command',
    nullif(current_setting('{setting}', true), ''),
    CASE
        WHEN o.stream_key IS NULL THEN 'added'
        WHEN n.stream_key IS NULL THEN 'removed'
        WHEN o.config_json IS DISTINCT FROM n.config_json THEN 'changed'
        WHEN n.status = 'disabled' THEN 'disabled'
        WHEN o.status = 'disabled' THEN 'enabled'
        ELSE 'changed'
    END,
    stream_key, o.config_json, o.status, n.config_json, n.status,
    CASE WHEN n.stream_key IS NULL THEN o.disabled_until ELSE n.disabled_until END
FROM {old} AS o FULL JOIN {new} AS n USING (stream_key)
WHERE {differs}
    OR CAST(nullif(current_setting('{setting}', true), '') AS json) ->> 'reason' IS NOT NULL

-- differs --
o.stream_key IS NULL OR n.stream_key IS NULL
    OR (o.config_json, o.status, o.disabled_until)
        IS DISTINCT FROM (n.config_json, n.status, n.disabled_until)

-- create_functions --
-- The lock is held until the transaction ends, so revisions are in the order of the commits. The
-- primary key refuses a number that a stale snapshot assigns twice. A column that a DBA added may
-- have the name of a variable.
--
-- Nobody else may attach a function to a table of their own, so EXECUTE is revoked. A DBA may have
-- made disabled_until a time with a zone, which becomes one of UTC.
--
-- A statement that sets the status and leaves the configuration, which a merge does not, disables
-- the stream from now on: a time that is over would let it run.
CREATE OR REPLACE FUNCTION {record}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $body$
#variable_conflict use_variable
DECLARE
    last record;
    next_revision bigint := 1;
    last_number bigint := 0;
    at timestamp := timezone('UTC', clock_timestamp());
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('{setting}', CAST(TG_RELID AS bigint)));
    SELECT revision, number, transaction_id, changed_at INTO last
    FROM {history} ORDER BY revision DESC, number DESC LIMIT 1;
    IF FOUND THEN
        next_revision := last.revision + 1;
        IF last.transaction_id = txid_current() AND last.changed_at >= timezone('UTC', now()) THEN
            next_revision := last.revision;
            last_number := last.number;
            at := last.changed_at;
        END IF;
    END IF;
    IF TG_OP = 'INSERT' THEN
        {record_insert};
    ELSIF TG_OP = 'UPDATE' THEN
        {record_update};
    ELSIF TG_OP = 'DELETE' THEN
        {record_delete};
    ELSE
        {record_truncate};
    END IF;
    RETURN NULL;
END
$body$;
REVOKE ALL ON FUNCTION {record}() FROM PUBLIC;
CREATE OR REPLACE FUNCTION {guard}() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    IF TG_OP <> 'INSERT' OR pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION 'the history % is append-only', TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege', HINT = 'The triggers of the configuration table '
            'write it, and `yellow-dynamic history --prune` removes what is old.';
    END IF;
    RETURN NULL;
END
$body$;
REVOKE ALL ON FUNCTION {guard}() FROM PUBLIC;
CREATE OR REPLACE FUNCTION {switch}() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $body$
BEGIN
    IF CAST(NEW.status AS text) = 'disabled' AND NEW.disabled_until <= timezone('UTC', now())
        AND NEW.disabled_until = OLD.disabled_until
        AND CAST(NEW.config_json AS text) IS NOT DISTINCT FROM CAST(OLD.config_json AS text)
    THEN
        NEW.disabled_until := NULL;
    END IF;
    RETURN NEW;
END
$body$;
REVOKE ALL ON FUNCTION {switch}() FROM PUBLIC

-- create_triggers --
DROP TRIGGER IF EXISTS {inserted} ON {table};
CREATE TRIGGER {inserted} AFTER INSERT ON {table}
REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION {record}();
DROP TRIGGER IF EXISTS {updated} ON {table};
CREATE TRIGGER {updated} AFTER UPDATE ON {table}
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION {record}();
DROP TRIGGER IF EXISTS {deleted} ON {table};
CREATE TRIGGER {deleted} AFTER DELETE ON {table}
REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION {record}();
DROP TRIGGER IF EXISTS {truncated} ON {table};
CREATE TRIGGER {truncated} BEFORE TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION {record}();
DROP TRIGGER IF EXISTS {switched} ON {table};
CREATE TRIGGER {switched} BEFORE UPDATE OF status ON {table}
FOR EACH ROW EXECUTE FUNCTION {switch}();
DROP TRIGGER IF EXISTS {append_only} ON {history};
CREATE TRIGGER {append_only} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {history}
FOR EACH STATEMENT EXECUTE FUNCTION {guard}()

-- is_complete --
-- What records the changes runs with the privileges of its owner, which has to own the history.
SELECT EXISTS (SELECT FROM pg_proc WHERE oid = to_regproc(:record) AND prosrc = :record_body
        AND proowner = (SELECT relowner FROM pg_class WHERE oid = to_regclass(:history))
        AND 'TimeZone=UTC' = ANY (proconfig))
    AND EXISTS (SELECT FROM pg_proc WHERE oid = to_regproc(:guard) AND prosrc = :guard_body)
    AND EXISTS (SELECT FROM pg_proc WHERE oid = to_regproc(:switch) AND prosrc = :switch_body)
    AND EXISTS (SELECT FROM pg_trigger
        WHERE tgrelid = to_regclass(:table) AND tgfoid = to_regproc(:switch) AND tgenabled <> 'D')
    AND (SELECT count(*) FROM pg_trigger
        WHERE tgrelid = to_regclass(:table) AND tgfoid = to_regproc(:record) AND tgenabled <> 'D'
    ) = 4
    AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(:table)
        AND attname = 'disabled_until' AND NOT attisdropped)
    AND EXISTS (SELECT FROM pg_trigger
        WHERE tgrelid = to_regclass(:history) AND tgfoid = to_regproc(:guard) AND tgenabled <> 'D')


-- Owners and grants


-- find_schema --
SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = CAST(:name AS regclass)

-- find_owner --
SELECT CAST(relowner::regrole AS text), quote_ident(current_user),
    pg_has_role(relowner, 'USAGE')
FROM pg_class WHERE oid = CAST(:name AS regclass)

-- find_grantees --
SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE CAST(grantee::regrole AS text) END
FROM pg_class, aclexplode(relacl)
WHERE oid = CAST(:name AS regclass) AND grantee <> relowner AND privilege_type LIKE :privilege


-- What reads and prunes the history


-- last_revision --
(SELECT coalesce(max(revision), 0) FROM {history})

-- rows_at --
-- The rows as of the changes for which the condition holds.
SELECT stream_key, config_after AS config_json, status_after AS status, disabled_until FROM (
    SELECT DISTINCT ON (stream_key) * FROM {history} WHERE {condition}
    ORDER BY stream_key, revision DESC, number DESC
) AS newest WHERE action <> 'removed'

-- is_comparable --
-- Whether ring 1 has upgraded the table, and its columns have the types that the history has.
SELECT count(*) = 3 FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = to_regclass(:table) AND (
    attname IN ('config_json', 'status') AND typcategory = 'S'
    OR attname = 'disabled_until' AND typcategory = 'D'
)

-- unrecorded --
-- The rows that differ from what the history has of them. A look at the newest change of each
-- stream is faster than one at all changes.
SELECT streams.stream_key, o.config_json, n.config_json
FROM (SELECT stream_key FROM {table} UNION SELECT stream_key FROM {history}) AS streams
LEFT JOIN {table} AS n ON n.stream_key = streams.stream_key
LEFT JOIN LATERAL (
    SELECT stream_key, config_after AS config_json, status_after AS status, disabled_until, action
    FROM {history} WHERE stream_key = streams.stream_key ORDER BY revision DESC, number DESC LIMIT 1
) AS o ON o.action <> 'removed'
WHERE coalesce(o.stream_key, n.stream_key) IS NOT NULL AND ({differs})

-- removed_while_disabled --
SELECT stream_key, to_jsonb(disabled_until) #>> '{{}}' FROM (
    SELECT DISTINCT ON (stream_key) * FROM {history}
    WHERE stream_key = ANY (ARRAY(SELECT json_array_elements_text(CAST(:keys AS json))))
    ORDER BY stream_key, revision DESC, number DESC
) AS newest
WHERE action = 'removed' AND status_before = 'disabled'
    AND (disabled_until IS NULL OR disabled_until > timezone('UTC', now()))

-- disabling_changes --
-- The newest change that disabled each of some streams.
SELECT {columns}
FROM json_array_elements_text(CAST(:keys AS json)) AS stream CROSS JOIN LATERAL (
    SELECT * FROM {history} WHERE stream_key = stream AND action = 'disabled'
    ORDER BY revision DESC, number DESC LIMIT 1
) AS newest

-- manual_edits --
-- The edits of configurations since the last managed write of each row: the newest ones of a row
-- and the oldest one, and how many there are.
WITH numbered AS (
    SELECT revision, number, stream_key, row_number() OVER newest AS place,
        bool_or(coalesce(command, '') IN ({managed})) OVER newest AS is_overwritten
    FROM {history}
    WHERE action NOT IN ('disabled', 'enabled') AND config_before IS DISTINCT FROM config_after
    WINDOW newest AS (PARTITION BY stream_key ORDER BY revision DESC, number DESC)
), edits AS (
    SELECT revision, number, place, count(*) OVER (PARTITION BY stream_key) AS count
    FROM numbered WHERE NOT is_overwritten
)
SELECT count, {columns} FROM edits JOIN {history} USING (revision, number)
WHERE place <= :listed OR place = count
ORDER BY stream_key, place

-- prune --
-- Later revisions need some changes for their rows; these stay, and who disabled a stream.
DELETE FROM {history} AS old WHERE changed_at < :before AND EXISTS (
    SELECT FROM {history} AS newer
    WHERE newer.stream_key = old.stream_key AND newer.changed_at < :before
        AND (newer.revision, newer.number) > (old.revision, old.number)
        AND (newer.action IN ('disabled', 'enabled')) = (old.action IN ('disabled', 'enabled'))
)

-- mark_pruned --
-- The triggers count the changes of a revision from 1: number 0 says that the rows of earlier
-- revisions are not on record any more.
DELETE FROM {history} WHERE stream_key = '' AND number = 0;
INSERT INTO {history} (
    revision, number, transaction_id, changed_at, login, application, command, about, action,
    stream_key
) SELECT
    {first_revision}, 0, txid_current(), timezone('UTC', clock_timestamp()), session_user,
    current_setting('application_name'),
    CAST(nullif(current_setting('{setting}', true), '') AS json) ->> 'command',
    nullif(current_setting('{setting}', true), ''), 'removed', ''

-- first_revision --
-- Earlier releases kept it in the comment of the history alone.
SELECT greatest(
    1, max(revision),
    CAST(substring(obj_description(CAST(:name AS regclass), 'pg_class')
        FROM '^Complete from revision (\d+)') AS bigint)
) FROM {history} WHERE stream_key = '' AND number = 0
