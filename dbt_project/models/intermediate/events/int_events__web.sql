with events as (
    select
        events.*,
        -- Collectors deliver at least once.
        row_number() over (partition by message_id order by received_at) as delivery
    from {{ ref('stg_segment__events') }} as events
    where occurred_at <= {{ nextmove.as_of() }}
),

identity as (
    select * from {{ ref('int_identity__map') }}
),

resolved as (
    {{ nextmove.with_customer('events', ['user_id', 'anonymous_id', 'email', 'phone']) }}
    and delivery = 1
)

select
    message_id,
    customer_id,
    type,
    event,
    platform,
    page_class,
    session_id,
    occurred_at
from resolved
