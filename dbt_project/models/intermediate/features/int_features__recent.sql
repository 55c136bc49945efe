{#-
  The events that the service needs to count on from here, one line each, oldest first:
  <microseconds> <kind> <id> <values>, with tabs between. Kinds and their values:
  web: type, event, page_class. messages: event_type, is_machine. complaint: open or solved,
  sentiment. Ids are those that the service sees: message_id, vendor:event_id, ticket_id.
-#}

with web as (
    select
        customer_id,
        'web' as kind,
        message_id as id,
        occurred_at,
        {{ nextmove.event_line('occurred_at', ["'web'", 'message_id', 'type', 'event', 'page_class']) }} as line
    from {{ ref('int_events__web') }}
    where {{ nextmove.is_in_a_window('web') }}
),

messages as (
    select
        customer_id,
        'messages' as kind,
        event_key as id,
        occurred_at,
        {{ nextmove.event_line('occurred_at', [
            "'messages'", 'event_key', 'event_type', "case when is_machine then 'true' else 'false' end"
        ]) }} as line
    from {{ ref('int_events__messages') }}
    where {{ nextmove.is_in_a_window('messages') }}
),

complaints as (
    select
        customer_id,
        'complaint' as kind,
        ticket_id as id,
        created_at as occurred_at,
        {{ nextmove.event_line('created_at', [
            "'complaint'", 'ticket_id', "case when is_open then 'open' else 'solved' end",
            'cast(sentiment as text)'
        ]) }} as line
    from {{ ref('int_events__complaints') }}
    where is_open or created_at > {{ nextmove.before_as_of(90 * 24) }}
),

events as (
    select * from web
    union all
    select * from messages
    union all
    select * from complaints
),

-- A robot's thousands of pages must not make a row that nobody can take.
ranked as (
    select
        events.*,
        row_number() over (
            partition by customer_id, kind order by occurred_at desc, id desc
        ) as recency
    from events
)

select
    customer_id,
    {{ dbt.listagg('line', "'\n'", 'order by occurred_at, kind, id') }} as recent_events
from ranked
where recency <= 500
group by 1
