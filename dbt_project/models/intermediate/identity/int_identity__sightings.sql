with vendor_events as (
    select
        email,
        occurred_at,
        case when not {{ nextmove.is_customer_id('external_id') }} then external_id end as user_id
    from {{ ref('stg_esp__events') }}
),

sets as (
    {{ nextmove.sighting(ref('stg_segment__events'), 'occurred_at', {
        'user_id': 'user_id', 'email': 'email', 'phone': 'phone', 'anonymous_id': 'anonymous_id'
    }) }}
    union all
    {{ nextmove.sighting('vendor_events', 'occurred_at', {'user_id': 'user_id', 'email': 'email'}) }}
    union all
    {{ nextmove.sighting(ref('stg_crm__contacts'), 'created_at', {
        'contact_id': 'contact_id', 'email': 'email', 'phone': 'phone'
    }) }}
    union all
    {{ nextmove.sighting(ref('stg_support__tickets'), 'created_at', {'email': 'email'}) }}
    union all
    {{ nextmove.sighting(ref('stg_shop__orders'), 'ordered_at', {
        'user_id': 'user_id', 'email': 'email', 'shop_customer_id': 'shop_customer_id'
    }) }}
    union all
    {{ nextmove.sighting(ref('stg_ads__clicks'), 'clicked_at', {'anonymous_id': 'anonymous_id'}) }}
    union all
    {{ nextmove.sighting(ref('stg_chat__chats'), 'started_at', {
        'email': 'email', 'anonymous_id': 'anonymous_id'
    }) }}
    union all
    {{ nextmove.sighting(ref('stg_forms__submissions'), 'submitted_at', {
        'email': 'email', 'phone': 'phone', 'anonymous_id': 'anonymous_id'
    }) }}
    union all
    {{ nextmove.sighting(ref('stg_consent__consents'), 'occurred_at', {
        'user_id': 'user_id', 'email': 'email', 'phone': 'phone'
    }) }}
    union all
    {{ nextmove.sighting(ref('stg_consent__suppressions'), 'occurred_at', {
        'user_id': 'user_id', 'email': 'email'
    }) }}
),

numbered as (
    select sets.*, row_number() over (order by first_seen_at) as sighting_id
    from sets
)

{% for kind in nextmove.identifier_kinds() %}
select
    sighting_id,
    '{{ kind }}' as identifier_kind,
    {{ kind }} as identifier_value,
    first_seen_at,
    last_seen_at
from numbered
where {{ kind }} is not null
{{ 'union all' if not loop.last }}
{% endfor %}
