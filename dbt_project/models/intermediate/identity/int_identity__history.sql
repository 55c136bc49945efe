{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key=['identifier_kind', 'identifier_value', 'valid_from'],
        full_refresh=false
    )
}}

with current_map as (
    select identifier_kind, identifier_value, customer_id from {{ ref('int_identity__map') }}
)

{% if is_incremental() %}

, latest as (
    select identifier_kind, identifier_value, customer_id, valid_from
    from (
        select
            history.*,
            row_number() over (
                partition by identifier_kind, identifier_value order by valid_from desc
            ) as recency
        from {{ this }} as history
    ) as ranked
    where recency = 1
)

{% endif %}

select
    current_map.identifier_kind,
    current_map.identifier_value,
    current_map.customer_id,
    {{ nextmove.as_of() }} as valid_from
from current_map
{% if is_incremental() %}
left join latest
    on current_map.identifier_kind = latest.identifier_kind
    and current_map.identifier_value = latest.identifier_value
-- A rebuild of the past changes nothing that was found out since.
where latest.customer_id is null
    or (latest.customer_id <> current_map.customer_id and latest.valid_from <= {{ nextmove.as_of() }})
{% endif %}
