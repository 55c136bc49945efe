with identity as (
    select * from {{ ref('int_identity__map') }}
),

recent_ad_clicks as (
    select anonymous_id
    from {{ ref('stg_ads__clicks') }}
    where clicked_at > {{ nextmove.before_as_of(168) }} and clicked_at <= {{ nextmove.as_of() }}
),

recent_chats as (
    select email, anonymous_id
    from {{ ref('stg_chat__chats') }}
    where started_at > {{ nextmove.before_as_of(168) }} and started_at <= {{ nextmove.as_of() }}
),

recent_forms as (
    select email, phone, anonymous_id
    from {{ ref('stg_forms__submissions') }}
    where submitted_at > {{ nextmove.before_as_of(168) }} and submitted_at <= {{ nextmove.as_of() }}
),

resolved_ad_clicks as (
    {{ nextmove.with_customer('recent_ad_clicks', ['anonymous_id']) }}
),

resolved_chats as (
    {{ nextmove.with_customer('recent_chats', ['email', 'anonymous_id']) }}
),

resolved_forms as (
    {{ nextmove.with_customer('recent_forms', ['email', 'phone', 'anonymous_id']) }}
),

touches as (
    select customer_id, 1 as ad_clicks, 0 as chats, 0 as forms from resolved_ad_clicks
    union all
    select customer_id, 0 as ad_clicks, 1 as chats, 0 as forms from resolved_chats
    union all
    select customer_id, 0 as ad_clicks, 0 as chats, 1 as forms from resolved_forms
)

select
    customer_id,
    cast(sum(ad_clicks) as integer) as ad_clicks_7d,
    cast(sum(chats) as integer) as chats_7d,
    cast(sum(forms) as integer) as forms_7d
from touches
group by 1
