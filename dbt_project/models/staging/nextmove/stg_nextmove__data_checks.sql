with source as (
    {{ nextmove.read_engine('data_checks', {
        'profile_build': 'text',
        'as_of': 'timestamp',
        'column_name': 'text',
        'failed': 'text'
    }) }}
),

renamed as (
    select
        profile_build,
        as_of,
        column_name,
        nullif(failed, '') as failed
    from source
)

select * from renamed
