with source as (
    {{ nextmove.read_raw('ad_clicks', {
        'click_id': 'text',
        'anonymous_id': 'text',
        'channel': 'text',
        'campaign': 'text',
        'cost_cents': 'bigint',
        'clicked_at': 'timestamp'
    }, optional=['channel', 'campaign', 'cost_cents']) }}
),

renamed as (
    select
        click_id,
        {{ nextmove.clean_id('anonymous_id') }} as anonymous_id,
        channel,
        campaign,
        cost_cents,
        clicked_at
    from source
)

select * from renamed
