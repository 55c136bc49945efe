with events as (
    select * from {{ ref('stg_segment__events') }} where occurred_at <= {{ nextmove.as_of() }}
),

identity as (
    select * from {{ ref('int_identity__map') }}
),

resolved as (
    {{ nextmove.with_customer('events', ['user_id', 'anonymous_id', 'email', 'phone']) }}
)

-- Collectors deliver at least once; the copies are alike.
select
    message_id,
    min(customer_id) as customer_id,
    min(type) as type,
    min(event) as event,
    min(platform) as platform,
    min(page_class) as page_class,
    min(session_id) as session_id,
    min(occurred_at) as occurred_at
from resolved
group by 1
