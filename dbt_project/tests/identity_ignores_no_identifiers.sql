{{ config(severity='warn') }}

-- Identifiers that so many people share that they join nobody: role mailboxes, junk values.
select identifier_kind, identifier_value, widest_links
from {{ ref('int_identity__identifiers') }}
where is_ignored
